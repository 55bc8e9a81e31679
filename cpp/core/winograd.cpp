// Plans Winograd's algorithm: transform tiles of the input, multiply at each of the 36 points, transform back.
//
// Forward and input gradient work on blocks of tiles whose points stay in L2; the products are conv_row over tiles. The
// filter gradient transforms a large chunk of tiles at once, and multiplies point by point into one sum, so that no
// thread needs a partial sum of its own and the order of the sum is the order of the tiles.
#include "core/winograd.h"

#include "core/direct.h"
#include "core/isa.h"
#include "core/threading.h"
#include "core/workspace.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace fastconv {
namespace {

constexpr std::int64_t kPoints = 36;
constexpr std::int64_t kBlockBytes = 640 << 10; // points of a block of tiles, in and out: most of an L2 cache
constexpr std::int64_t kThreadBytes = 2 << 20;  // bound on the scratch memory of a thread
constexpr std::int64_t kLeastTiles = 12;        // fewer would read the transformed filters for too few products
constexpr std::int64_t kFilterBytes = 24 << 20; // transformed filters of one pass
constexpr std::int64_t kChunkBytes = 20 << 20;  // points of a chunk of a filter gradient: x and dy
constexpr std::int64_t kSumBytes = 40 << 20;    // points of the filter gradient

/// Planes of points one cache line apart from a power of two, which would map them all to one set of L1.
template <class T>
constexpr std::int64_t plane_padding = 64 / static_cast<std::int64_t>(sizeof(T));

template <class T>
std::int64_t tile_bytes(std::int64_t c, std::int64_t k) {
    const KernelsOf<T>& kernel = kernels<T>();
    const std::int64_t lanes = std::min(ceil_div(k, kernel.width), kernel.max_vectors) * kernel.width;
    return kPoints * (c + lanes) * static_cast<std::int64_t>(sizeof(T));
}

/// Tiles of a block: whole register tiles of 12 (6 and 4 divide it), and enough blocks for all threads.
template <class T>
std::int64_t choose_block(std::int64_t tiles, std::int64_t c, std::int64_t k) {
    const std::int64_t fit = std::clamp<std::int64_t>(kBlockBytes / tile_bytes<T>(c, k) / 12 * 12, kLeastTiles, 96);
    const std::int64_t share = ceil_div(ceil_div(tiles, 2 * get_num_threads()), 12) * 12;
    return std::max<std::int64_t>(kLeastTiles, std::min(fit, share));
}

struct Grid {
    std::int64_t rows, columns; // tiles of an image

    std::int64_t image() const { return rows * columns; }
};

/// Tiles of a chunk of a filter gradient.
template <class T>
std::int64_t choose_chunk(const ConvProblem& o, std::int64_t tiles) {
    const std::int64_t bytes = kPoints * (o.c + o.k) * static_cast<std::int64_t>(sizeof(T));
    return std::clamp<std::int64_t>(kChunkBytes / bytes, 1, tiles);
}

/// The part of a square of `size` pixels from `base` that lies inside [0, limit).
void valid_part(std::int64_t base, std::int64_t size, std::int64_t limit, std::int64_t& first, std::int64_t& last) {
    first = std::clamp<std::int64_t>(-base, 0, size);
    last = std::clamp<std::int64_t>(limit - base, first, size);
}

/// Transforms filters to [filter block][point][c][lanes].
template <class T>
void transform_filters(const Gather<T>& g, std::int64_t k_blocks, std::int64_t vectors, T* to) {
    const KernelsOf<T>& kernel = kernels<T>();
    constexpr std::int64_t strip = 16; // channels of one task
    const std::int64_t strips = ceil_div(g.c, strip);
    parallel_for(k_blocks * strips, static_cast<double>(kPoints * g.c * g.k), [&](std::int64_t task) {
        const std::int64_t kb = task / strips, c0 = task % strips * strip;
        const std::int64_t vector = part_start(kb, k_blocks, vectors);
        const std::int64_t k0 = vector * kernel.width;
        const std::int64_t lanes = (part_start(kb + 1, k_blocks, vectors) - vector) * kernel.width;
        const std::int64_t valid = std::min(g.k, k0 + lanes) - k0;
        const Scratch<T> taps(9 * lanes);
        std::fill_n(taps.get(), 9 * lanes, T{});
        for (std::int64_t c = c0; c < std::min(g.c, c0 + strip); ++c) {
            const T* from = g.filters + c * g.f_c + k0 * g.f_k;
            for (std::int64_t i = 0; i < 3; ++i)
                for (std::int64_t j = 0; j < 3; ++j)
                    for (std::int64_t k = 0; k < valid; ++k)
                        taps.get()[(i * 3 + j) * lanes + k] = from[i * g.f_i + j * g.f_j + k * g.f_k];
            WinogradTile<T> tile{};
            tile.pixels = taps.get();
            tile.row = 3 * lanes;
            tile.pixel = lanes;
            tile.row1 = tile.column1 = 3;
            tile.channels = lanes;
            tile.points = to + kPoints * g.c * k0 + c * lanes;
            tile.plane = g.c * lanes;
            kernel.winograd_filter(tile);
        }
    });
}

template <class T>
void transform_inputs(const Windows& a, const Grid& grid, const T* input, std::int64_t image, std::int64_t pixel,
                      std::int64_t channels, std::int64_t first, std::int64_t last, T* points, std::int64_t plane) {
    for (std::int64_t t = first; t < last; ++t) {
        const std::int64_t n = t / grid.image(), inside = t % grid.image();
        const std::int64_t y = inside / grid.columns * 4 + a.base_h, x = inside % grid.columns * 4 + a.base_w;
        WinogradTile<T> tile{};
        tile.pixels = input + n * image + (y * a.w + x) * pixel;
        tile.row = a.w * pixel;
        tile.pixel = pixel;
        valid_part(y, 6, a.h, tile.row0, tile.row1);
        valid_part(x, 6, a.w, tile.column0, tile.column1);
        tile.points = points + (t - first) * channels;
        tile.plane = plane;
        tile.channels = channels;
        kernels<T>().winograd_input(tile);
    }
}

} // namespace

template <class T>
bool winograd_serves(const ConvProblem& o) {
    if (o.r != 3 || o.s != 3 || o.stride_h != 1 || o.stride_w != 1 || o.dilation_h != 1 || o.dilation_w != 1 ||
        o.groups != 1)
        return false;
    const auto size = static_cast<std::int64_t>(sizeof(T));
    return kLeastTiles * std::max(tile_bytes<T>(o.c, o.k), tile_bytes<T>(o.k, o.c)) <= kThreadBytes &&
           kPoints * o.c * o.k * size <= kSumBytes;
}

template <class T>
void run_winograd(const Gather<T>& g) {
    const Windows& a = g.windows;
    if (g.n == 0 || a.p == 0 || a.q == 0) return;
    if (a.r == 0 || a.s == 0) return run_direct(g); // nothing to multiply
    const KernelsOf<T>& kernel = kernels<T>();
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    const std::int64_t vectors = ceil_div(g.k, kernel.width), k_blocks = ceil_div(vectors, kernel.max_vectors);
    if (kPoints * g.c * vectors * kernel.width * size > kFilterBytes && k_blocks > 1) {
        Gather<T> half = g;
        half.k = k_blocks / 2 * kernel.max_vectors * kernel.width;
        run_winograd(half);
        const std::int64_t done = half.k;
        half.k = g.k - done;
        half.filters += done * g.f_k;
        half.output += done;
        if (half.bias) half.bias += done;
        return run_winograd(half);
    }
    const Packed<T> filters(g.cache, pack_key(g, Algorithm::winograd, {k_blocks}),
                            kPoints * g.c * vectors * kernel.width,
                            [&](T* to) { transform_filters(g, k_blocks, vectors, to); });

    const Grid grid{ceil_div(a.p, 4), ceil_div(a.q, 4)};
    const std::int64_t tiles = g.n * grid.image();
    const std::int64_t block = choose_block<T>(tiles, g.c, g.k);
    const std::int64_t blocks = ceil_div(tiles, block);
    const std::int64_t widest = std::min(vectors, kernel.max_vectors) * kernel.width;
    const std::int64_t in_plane = block * g.c + plane_padding<T>, out_plane = block * widest + plane_padding<T>;
    std::vector<unsigned char> finite(static_cast<std::size_t>(tiles), 1);
    const double work = 2.0 * static_cast<double>(kPoints * tiles * g.c) * static_cast<double>(g.k);
    parallel_for(blocks, work, [&](std::int64_t task) {
        const std::int64_t first = task * block, last = std::min(tiles, first + block);
        const Scratch<T> in(kPoints * in_plane), out(kPoints * out_plane);
        transform_inputs(a, grid, g.input, g.image, g.pixel, g.c, first, last, in.get(), in_plane);
        for (std::int64_t kb = 0; kb < k_blocks; ++kb) {
            const std::int64_t vector = part_start(kb, k_blocks, vectors);
            const std::int64_t count = part_start(kb + 1, k_blocks, vectors) - vector;
            const std::int64_t k0 = vector * kernel.width, lanes = count * kernel.width;
            const std::ptrdiff_t start = 0;
            ConvRow<T> row{};
            row.x_step = g.c;
            row.segments = &start;
            row.segment_count = 1;
            row.segment_length = g.c;
            row.y_step = lanes;
            row.pixels = last - first;
            row.channels = lanes;
            for (std::int64_t point = 0; point < kPoints; ++point) {
                row.x = in.get() + point * in_plane;
                row.filters = filters.get() + kPoints * g.c * k0 + point * g.c * lanes;
                row.y = out.get() + point * out_plane;
                kernel.conv_row[count - 1](row);
            }
            WinogradOutput<T> tile{};
            tile.plane = out_plane;
            tile.bias = g.bias ? g.bias + k0 : nullptr;
            tile.relu = g.relu;
            tile.row = g.out_row;
            tile.pixel = g.out_pixel;
            tile.channels = std::min(lanes, g.k - k0);
            for (std::int64_t t = first; t < last; ++t) {
                const std::int64_t n = t / grid.image(), inside = t % grid.image();
                const std::int64_t y = inside / grid.columns * 4, x = inside % grid.columns * 4;
                tile.points = out.get() + (t - first) * lanes;
                tile.y = g.output + n * g.out_image + y * g.out_row + x * g.out_pixel + k0;
                tile.rows = std::min<std::int64_t>(4, a.p - y);
                tile.columns = std::min<std::int64_t>(4, a.q - x);
                if (!kernel.winograd_output(tile)) finite[static_cast<std::size_t>(t)] = 0;
            }
        }
    });
    // A NaN or infinity, given or made by the transform, spreads over its tile: these tiles are computed directly.
    std::vector<ImageTile> again;
    for (std::int64_t t = 0; t < tiles; ++t) {
        if (finite[static_cast<std::size_t>(t)]) continue;
        const std::int64_t inside = t % grid.image(), y = inside / grid.columns * 4, x = inside % grid.columns * 4;
        again.push_back(
            {t / grid.image(), {y, std::min<std::int64_t>(4, a.p - y), x, std::min<std::int64_t>(4, a.q - x)}});
    }
    if (!again.empty()) run_direct(g, &again);
}

template <class T>
void winograd_filter_gradient(const ConvProblem& o, const T* input, const T* dy, T* dw) {
    const KernelsOf<T>& kernel = kernels<T>();
    const Windows a = windows_of(o);
    const Grid grid{ceil_div(a.p, 4), ceil_div(a.q, 4)};
    const std::int64_t tiles = o.n * grid.image();
    const std::int64_t chunk = choose_chunk<T>(o, tiles);
    const std::int64_t x_plane = chunk * o.c + plane_padding<T>, dy_plane = chunk * o.k + plane_padding<T>;
    const std::int64_t sum_plane = o.c * o.k;
    const std::int64_t vectors = ceil_div(o.k, kernel.width), k_blocks = ceil_div(vectors, kernel.max_vectors);
    const Scratch<T> x_points(kPoints * x_plane), dy_points(kPoints * dy_plane), sums(kPoints * sum_plane);
    const double work = 2.0 * static_cast<double>(kPoints * o.c * o.k) * static_cast<double>(chunk);
    for (std::int64_t start = 0; start < tiles; start += chunk) {
        const std::int64_t count = std::min(chunk, tiles - start);
        constexpr std::int64_t few = 8; // tiles of one task
        parallel_for(ceil_div(count, few), static_cast<double>(count * kPoints * (o.c + o.k)), [&](std::int64_t task) {
            const std::int64_t first = start + task * few, last = std::min(start + count, first + few);
            transform_inputs(a, grid, input, o.h * o.w * o.c, o.c, o.c, first, last,
                             x_points.get() + (first - start) * o.c, x_plane);
            for (std::int64_t t = first; t < last; ++t) {
                const std::int64_t n = t / grid.image(), inside = t % grid.image();
                const std::int64_t y = inside / grid.columns * 4, x = inside % grid.columns * 4;
                WinogradTile<T> tile{};
                tile.pixels = dy + ((n * o.p + y) * o.q + x) * o.k;
                tile.row = o.q * o.k;
                tile.pixel = o.k;
                tile.row1 = std::min<std::int64_t>(4, o.p - y);
                tile.column1 = std::min<std::int64_t>(4, o.q - x);
                tile.points = dy_points.get() + (t - start) * o.k;
                tile.plane = dy_plane;
                tile.channels = o.k;
                kernel.winograd_gradient(tile);
            }
        });
        parallel_for(kPoints * k_blocks, work, [&](std::int64_t task) {
            const std::int64_t point = task / k_blocks, kb = task % k_blocks;
            const std::int64_t vector = part_start(kb, k_blocks, vectors);
            const std::int64_t wide = part_start(kb + 1, k_blocks, vectors) - vector;
            const std::int64_t k0 = vector * kernel.width, most = kernel.outer_products_count[wide - 1];
            OuterProducts<T> products{};
            products.x_step = o.c;
            products.dy = dy_points.get() + point * dy_plane + k0;
            products.dy_step = o.k;
            products.rows = 1;
            products.pixels = count;
            products.channels = std::min(o.k - k0, wide * kernel.width);
            products.out_step = o.k;
            T* const sum = sums.get() + point * sum_plane + k0;
            if (start == 0)
                for (std::int64_t c = 0; c < o.c; ++c) std::fill_n(sum + c * o.k, products.channels, T{});
            constexpr std::ptrdiff_t neighbours[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13};
            products.offsets = neighbours;
            const std::int64_t calls = ceil_div(o.c, most);
            for (std::int64_t call = 0; call < calls; ++call) {
                const std::int64_t c = part_start(call, calls, o.c);
                products.count = part_start(call + 1, calls, o.c) - c;
                products.x = x_points.get() + point * x_plane + c;
                products.out = sum + c * o.k;
                kernel.outer_products[wide - 1](products);
            }
        });
    }
    const auto finish = [&](std::int64_t c) {
        WinogradOutput<T> taps{};
        taps.points = sums.get() + c * o.k;
        taps.plane = sum_plane;
        taps.y = dw + c * o.k;
        taps.row = 3 * o.c * o.k;
        taps.pixel = o.c * o.k;
        taps.channels = o.k;
        kernel.winograd_taps(taps);
    };
    parallel_for(o.c, static_cast<double>(kPoints * o.c * o.k), finish);
    // A NaN or infinity spreads over the nine taps of its (c, k): these are computed directly.
    const std::int64_t total = 9 * o.c * o.k;
    if (std::all_of(dw, dw + total, [](T value) { return std::isfinite(value); })) return;
    const Scratch<T> direct(total);
    direct_filter_gradient(o, input, dy, direct.get());
    for (std::int64_t pair = 0; pair < o.c * o.k; ++pair) {
        bool finite = true;
        for (std::int64_t tap = 0; tap < 9; ++tap) finite &= std::isfinite(dw[tap * o.c * o.k + pair]);
        if (finite) continue;
        for (std::int64_t tap = 0; tap < 9; ++tap) dw[tap * o.c * o.k + pair] = direct.get()[tap * o.c * o.k + pair];
    }
}

template <class T>
Sketch sketch_winograd(const Gather<T>& g) {
    const KernelsOf<T>& kernel = kernels<T>();
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    const std::int64_t tiles = g.n * ceil_div(g.windows.p, 4) * ceil_div(g.windows.q, 4);
    const std::int64_t vectors = ceil_div(g.k, kernel.width), k_blocks = ceil_div(vectors, kernel.max_vectors);
    const std::int64_t block = choose_block<T>(tiles, g.c, g.k), widest = ceil_div(vectors, k_blocks);
    Sketch sketch;
    sketch.kernel = "conv_row on 36 points of 4x4 tiles";
    sketch.tile_pixels = std::min(block, kernel.conv_row_pixels[widest - 1]);
    sketch.tile_filters = widest * kernel.width;
    sketch.tasks = ceil_div(tiles, block);
    sketch.shared_bytes = std::min(kPoints * g.c * vectors * kernel.width * size, kFilterBytes) + tiles;
    sketch.thread_bytes = kPoints * (block * (g.c + widest * kernel.width) + 2 * plane_padding<T>)*size;
    sketch.multiplications = static_cast<double>(kPoints * tiles) * static_cast<double>(g.c * g.k);
    return sketch;
}

template <class T>
Sketch sketch_winograd_filter_gradient(const ConvProblem& o) {
    const KernelsOf<T>& kernel = kernels<T>();
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    const std::int64_t tiles = o.n * ceil_div(o.p, 4) * ceil_div(o.q, 4), chunk = choose_chunk<T>(o, tiles);
    const std::int64_t vectors = ceil_div(o.k, kernel.width), k_blocks = ceil_div(vectors, kernel.max_vectors);
    const std::int64_t widest = ceil_div(vectors, k_blocks);
    Sketch sketch;
    sketch.kernel = "outer_products on 36 points of 4x4 tiles";
    sketch.tile_pixels = std::min(o.c, kernel.outer_products_count[widest - 1]);
    sketch.tile_filters = widest * kernel.width;
    sketch.tasks = kPoints * k_blocks;
    sketch.shared_bytes = kPoints * (chunk * (o.c + o.k) + 2 * plane_padding<T> + o.c * o.k) * size;
    sketch.multiplications = static_cast<double>(kPoints * tiles) * static_cast<double>(o.c * o.k);
    return sketch;
}

template bool winograd_serves<float>(const ConvProblem&);
template bool winograd_serves<double>(const ConvProblem&);
template void run_winograd(const Gather<float>&);
template void run_winograd(const Gather<double>&);
template void winograd_filter_gradient(const ConvProblem&, const float*, const float*, float*);
template void winograd_filter_gradient(const ConvProblem&, const double*, const double*, double*);

template Sketch sketch_winograd(const Gather<float>&);
template Sketch sketch_winograd(const Gather<double>&);
template Sketch sketch_winograd_filter_gradient<float>(const ConvProblem&);
template Sketch sketch_winograd_filter_gradient<double>(const ConvProblem&);

} // namespace fastconv
