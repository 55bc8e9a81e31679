// Plans Winograd's algorithm, forward and input gradient: transform tiles of the input, multiply at each of the 36
// points, transform back. The products are conv_row over tiles.
//
// Two orders of work, of the same bits. Usually transformed filters are packed once, and each task takes a block of
// tiles through all filters. Where tiles are few and filters many, the transformed filters (4 times their size) would
// come from memory for a few products each: there a task transforms a part of the filters into L2 and multiplies it
// with many tiles, and they are never stored. The sums over the channels then go on from part to part.
#include "algorithms/winograd.h"

#include "algorithms/direct.h"
#include "algorithms/winograd_tiles.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"

#include <algorithm>
#include <vector>

namespace fastconv {
namespace {

constexpr std::int64_t kBlockBytes = 640 << 10; // points of a block of tiles, in and out: most of an L2 cache
constexpr std::int64_t kThreadBytes = 2 << 20;  // bound on the scratch memory of a thread
constexpr std::int64_t kLeastTiles = 12;        // fewer would read the transformed filters for too few products
constexpr std::int64_t kFilterBytes = 24 << 20; // transformed filters of one pass

constexpr std::size_t kTilesAgain = 1 << 14; // tiles listed at once to be computed directly

constexpr std::int64_t kAhead = 4; // channels whose taps are fetched before their turn

// Filters that are not stored:
constexpr std::int64_t kPartBytes = 320 << 10; // a part of the transformed filters
// Tiles that one part serves: the fewer, the more often filters are transformed and read. 200 take 2 MB for a thread's
// points of the output, which the bound allows 16 threads.
constexpr std::int64_t kPartTiles = 200, kPartTilesOfManyThreads = 64;
constexpr std::int64_t kChunkBytes = 16 << 20;  // points of the input
constexpr std::int64_t kStoredBytes = 10 << 20; // transformed filters larger than this leave the caches
constexpr std::int64_t kTilesOfFewPixels = 64;  // tiles of an image, up to which they would be read for too few of them
// Smaller ones, too, are not worth storing for so few tiles of the whole batch: 14x14x256 takes 0.67 instead of 0.86 ms
// for one image and as long for eight; filters of 128 channels (2.4 MB) gain nothing.
constexpr std::int64_t kFewTiles = 100, kStoredForFewBytes = 4 << 20;

template <class T>
constexpr std::int64_t value_bytes = static_cast<std::int64_t>(sizeof(T));

template <class T>
std::int64_t tile_bytes(std::int64_t c, std::int64_t k) {
    const KernelsOf<T>& kernel = kernels<T>();
    const std::int64_t lanes = std::min(ceil_div(k, kernel.width), kernel.max_vectors) * kernel.width;
    return kPoints * (c + lanes) * value_bytes<T>;
}

/// How filters are cut, and which order of work a layer has for so many tiles.
template <class T>
struct FilterBlocks {
    std::int64_t vectors, k_blocks, widest; // widest: filters of a block
    bool stored;
    std::int64_t c_parts; // not stored: parts of the channels of a block

    explicit FilterBlocks(const Gather<T>& g) {
        const KernelsOf<T>& kernel = kernels<T>();
        vectors = ceil_div(g.k, kernel.width);
        k_blocks = ceil_div(vectors, kernel.max_vectors);
        widest = ceil_div(vectors, k_blocks) * kernel.width;
        const TileGrid grid(WinogradForm(g.windows.r), g.windows.p, g.windows.q);
        const std::int64_t bytes = kPoints * g.c * g.k * value_bytes<T>;
        const bool few = g.cache == nullptr && g.n * grid.image() <= kFewTiles && bytes > kStoredForFewBytes;
        stored = (bytes <= kStoredBytes && !few) || grid.image() > kTilesOfFewPixels;
        const std::int64_t most = std::max<std::int64_t>(1, kPartBytes / (kPoints * widest * value_bytes<T>));
        c_parts = stored ? 1 : ceil_div(g.c, most);
    }
    /// Block b has the filters [first(b), first(b) + lanes(b)), the last ones beyond k.
    std::int64_t first(std::int64_t b) const { return part_start(b, k_blocks, vectors) * kernels<T>().width; }
    std::int64_t lanes(std::int64_t b) const { return first(b + 1) - first(b); }
};

/// Tiles of a block: whole register tiles of 12 (6 and 4 divide it), and enough blocks for all threads; of few tiles,
/// one or two equal blocks for each thread.
template <class T>
std::int64_t choose_block(std::int64_t tiles, std::int64_t c, std::int64_t k) {
    const std::int64_t fit = std::clamp<std::int64_t>(kBlockBytes / tile_bytes<T>(c, k) / 12 * 12, kLeastTiles, 96);
    const std::int64_t threads = threads_for_tasks();
    for (const std::int64_t blocks : {threads, 2 * threads})
        if (ceil_div(tiles, blocks) <= fit) return ceil_div(tiles, blocks);
    const std::int64_t share = ceil_div(ceil_div(tiles, 2 * threads), 12) * 12;
    return std::max<std::int64_t>(kLeastTiles, std::min(fit, share));
}

/// Transforms channels [c0, c1) of filters [k0, k0 + lanes) to [point][c][lane], planes `plane` apart.
template <class T>
void transform_filters(const Gather<T>& g, const WinogradForm& form, std::int64_t c0, std::int64_t c1, std::int64_t k0,
                       std::int64_t lanes, T* to, std::int64_t plane) {
    const KernelsOf<T>& kernel = kernels<T>();
    constexpr std::int64_t strip = 16; // channels whose taps are turned at once
    const std::int64_t valid = std::min(g.k - k0, lanes), window = form.window;
    const bool in_place = g.f_k == 1 && valid == lanes;
    const Scratch<T> taps(in_place ? 0 : window * window * strip * lanes);
    WinogradTile<T> tile{};
    tile.row1 = tile.column1 = window;
    tile.channels = lanes;
    tile.plane = plane;
    for (std::int64_t first = c0; first < c1; first += strip) {
        const std::int64_t count = std::min(strip, c1 - first);
        const T* from = g.filters + first * g.f_c + k0 * g.f_k;
        if (!in_place) {
            if (valid < lanes) std::fill_n(taps.get(), window * window * strip * lanes, T{});
            for (std::int64_t i = 0; i < window; ++i) {
                for (std::int64_t j = 0; j < window; ++j) {
                    T* tap = taps.get() + (i * window + j) * strip * lanes;
                    const T* source = from + i * g.f_i + j * g.f_j;
                    if (g.f_c == 1)
                        kernel.transpose(source, g.f_k, tap, lanes, valid, count);
                    else // f_k is 1
                        for (std::int64_t c = 0; c < count; ++c)
                            std::copy_n(source + c * g.f_c, valid, tap + c * lanes);
                }
            }
        }
        for (std::int64_t c = 0; c < count; ++c) {
            // Runs of a few lines, one for each tap and channel, are too short for the hardware to see where they go.
            for (std::int64_t tap = 0; in_place && c + kAhead < c1 - first && tap < window * window; ++tap) {
                const T* ahead = from + (c + kAhead) * g.f_c + tap / window * g.f_i + tap % window * g.f_j;
                for (std::int64_t lane = 0; lane < lanes; lane += 64 / value_bytes<T>)
                    __builtin_prefetch(ahead + lane, 0, 2);
            }
            tile.pixels = in_place ? from + c * g.f_c : taps.get() + c * lanes;
            tile.row = in_place ? g.f_i : window * strip * lanes;
            tile.pixel = in_place ? g.f_j : strip * lanes;
            tile.points = to + (first - c0 + c) * lanes;
            kernel.winograd_filter[form.index](tile);
        }
    }
}

/// Multiplies `tiles` tiles of points at `in` with the points of a part of the filters, [point][c][lanes].
template <class T>
void multiply(const T* in, std::int64_t in_plane, std::int64_t in_step, std::int64_t tiles, const T* filters,
              std::int64_t channels, std::int64_t lanes, T* out, std::int64_t out_plane, bool resume) {
    const KernelsOf<T>& kernel = kernels<T>();
    const std::ptrdiff_t start = 0;
    ConvRow<T> row{};
    row.x_step = in_step;
    row.segments = &start;
    row.segment_count = 1;
    row.segment_length = channels;
    row.y_step = lanes;
    row.pixels = tiles;
    row.channels = lanes;
    row.resume = resume;
    for (std::int64_t point = 0; point < kPoints; ++point) {
        row.x = in + point * in_plane;
        row.filters = filters + point * channels * lanes;
        row.y = out + point * out_plane;
        kernel.conv_row[lanes / kernel.width - 1](row);
    }
}

/// Transforms tiles [first, last) back to filters [k0, k0 + lanes) of the output, and notes those not finite.
template <class T>
void transform_outputs(const Gather<T>& g, const WinogradForm& form, const TileGrid& grid, std::int64_t first,
                       std::int64_t last, std::int64_t k0, std::int64_t lanes, const T* points, std::int64_t plane,
                       std::vector<unsigned char>& finite) {
    WinogradOutput<T> tile{};
    tile.plane = plane;
    tile.bias = g.bias ? g.bias + k0 : nullptr;
    tile.relu = g.relu;
    tile.row = g.out_row;
    tile.pixel = g.out_pixel;
    tile.channels = std::min(lanes, g.k - k0);
    for (std::int64_t t = first; t < last; ++t) {
        const std::int64_t y = grid.y(t), x = grid.x(t);
        tile.points = points + (t - first) * lanes;
        tile.y = g.output + grid.n(t) * g.out_image + y * g.out_row + x * g.out_pixel + k0;
        tile.rows = std::min(form.tile, g.windows.p - y);
        tile.columns = std::min(form.tile, g.windows.q - x);
        // Several tasks may compute filters of one tile: all that write, write 0.
        if (!kernels<T>().winograd_output[form.index](tile))
            __atomic_store_n(&finite[static_cast<std::size_t>(t)], static_cast<unsigned char>(0), __ATOMIC_RELAXED);
    }
}

template <class T>
void with_stored_filters(const Gather<T>& g, const WinogradForm& form, const TileGrid& grid,
                         const FilterBlocks<T>& blocks, std::int64_t tiles, std::vector<unsigned char>& finite) {
    const Packed<T> filters(
        g.cache, pack_key(g, Algorithm::winograd, {blocks.k_blocks}),
        kPoints * g.c * blocks.vectors * kernels<T>().width, [&](T* to) {
            constexpr std::int64_t strip = 16; // channels of one task
            const std::int64_t strips = ceil_div(g.c, strip);
            parallel_for(blocks.k_blocks * strips, static_cast<double>(kPoints * g.c * g.k), [&](std::int64_t task) {
                const std::int64_t kb = task / strips, c0 = task % strips * strip, lanes = blocks.lanes(kb);
                transform_filters(g, form, c0, std::min(g.c, c0 + strip), blocks.first(kb), lanes,
                                  to + kPoints * g.c * blocks.first(kb) + c0 * lanes, g.c * lanes);
            });
        });
    const std::int64_t block = choose_block<T>(tiles, g.c, g.k);
    const std::int64_t in_plane = block * g.c + plane_padding<T>, out_plane = block * blocks.widest + plane_padding<T>;
    const double work = 2.0 * static_cast<double>(kPoints * tiles * g.c) * static_cast<double>(g.k);
    parallel_for(ceil_div(tiles, block), work, [&](std::int64_t task) {
        const std::int64_t first = task * block, last = std::min(tiles, first + block);
        const Scratch<T> in(kPoints * in_plane), out(kPoints * out_plane);
        transform_inputs(g.windows, grid, g.input, g.image, g.pixel, g.c, first, last, in.get(), in_plane);
        for (std::int64_t kb = 0; kb < blocks.k_blocks; ++kb) {
            const std::int64_t k0 = blocks.first(kb), lanes = blocks.lanes(kb);
            multiply(in.get(), in_plane, g.c, last - first, filters.get() + kPoints * g.c * k0, g.c, lanes, out.get(),
                     out_plane, false);
            transform_outputs(g, form, grid, first, last, k0, lanes, out.get(), out_plane, finite);
        }
    });
}

/// Tiles whose input is transformed at once, and of these the tiles of one task.
template <class T>
void choose_chunk(const Gather<T>& g, std::int64_t tiles, std::int64_t k_blocks, std::int64_t& chunk,
                  std::int64_t& block) {
    chunk = std::clamp<std::int64_t>(kChunkBytes / (kPoints * g.c * value_bytes<T>), 1, tiles);
    const std::int64_t threads = threads_for_tasks(), most = threads <= 16 ? kPartTiles : kPartTilesOfManyThreads;
    const std::int64_t enough = ceil_div(2 * threads, k_blocks); // tasks for all threads
    block = ceil_div(chunk, std::min(chunk, std::max(ceil_div(chunk, most), enough)));
}

template <class T>
void with_streamed_filters(const Gather<T>& g, const WinogradForm& form, const TileGrid& grid,
                           const FilterBlocks<T>& blocks, std::int64_t tiles, std::vector<unsigned char>& finite) {
    std::int64_t chunk = 0, block = 0;
    choose_chunk(g, tiles, blocks.k_blocks, chunk, block);
    // Points of the input lie as [part of the channels][point][tile][channel]: a product reads one run of memory.
    const std::int64_t out_plane = block * blocks.widest + plane_padding<T>;
    const auto in_offset = [&](std::int64_t part) {
        return kPoints * (chunk * part_start(part, blocks.c_parts, g.c) + part * plane_padding<T>);
    };
    const Scratch<T> in(in_offset(blocks.c_parts));
    for (std::int64_t start = 0; start < tiles; start += chunk) {
        const std::int64_t count = std::min(chunk, tiles - start), tile_blocks = ceil_div(count, block);
        constexpr std::int64_t few = 4; // tiles of one task
        parallel_for(ceil_div(count, few), static_cast<double>(count * kPoints * g.c), [&](std::int64_t task) {
            const std::int64_t first = task * few, last = std::min(count, first + few);
            for (std::int64_t part = 0; part < blocks.c_parts; ++part) {
                const std::int64_t c0 = part_start(part, blocks.c_parts, g.c);
                const std::int64_t channels = part_start(part + 1, blocks.c_parts, g.c) - c0;
                transform_inputs(g.windows, grid, g.input + c0, g.image, g.pixel, channels, start + first, start + last,
                                 in.get() + in_offset(part) + first * channels, chunk * channels + plane_padding<T>);
            }
        });
        const double work = 2.0 * static_cast<double>(kPoints * count * g.c) * static_cast<double>(g.k);
        parallel_for(tile_blocks * blocks.k_blocks, work, [&](std::int64_t task) {
            const std::int64_t kb = task / tile_blocks, first = task % tile_blocks * block;
            const std::int64_t last = std::min(count, first + block);
            const std::int64_t k0 = blocks.first(kb), lanes = blocks.lanes(kb);
            const std::int64_t most = ceil_div(g.c, blocks.c_parts);
            const Scratch<T> filters(kPoints * most * lanes), out(kPoints * out_plane);
            for (std::int64_t part = 0; part < blocks.c_parts; ++part) {
                const std::int64_t c0 = part_start(part, blocks.c_parts, g.c);
                const std::int64_t channels = part_start(part + 1, blocks.c_parts, g.c) - c0;
                transform_filters(g, form, c0, c0 + channels, k0, lanes, filters.get(), channels * lanes);
                multiply(in.get() + in_offset(part) + first * channels, chunk * channels + plane_padding<T>, channels,
                         last - first, filters.get(), channels, lanes, out.get(), out_plane, part > 0);
            }
            transform_outputs(g, form, grid, start + first, start + last, k0, lanes, out.get(), out_plane, finite);
        });
    }
}

} // namespace

template <class T>
bool winograd_serves(const ConvProblem& o) {
    if (o.r != o.s || (o.r != 3 && o.r != 5) || o.stride_h != 1 || o.stride_w != 1 || o.dilation_h != 1 ||
        o.dilation_w != 1 || o.groups != 1)
        return false;
    return kLeastTiles * std::max(tile_bytes<T>(o.c, o.k), tile_bytes<T>(o.k, o.c)) <= kThreadBytes;
}

template <class T>
void run_winograd(const Gather<T>& g) {
    const Windows& a = g.windows;
    if (g.n == 0 || a.p == 0 || a.q == 0) return;
    if (a.r == 0 || a.s == 0) return run_direct(g); // nothing to multiply
    const FilterBlocks<T> blocks(g);
    if (blocks.stored && blocks.k_blocks > 1 &&
        kPoints * g.c * blocks.vectors * kernels<T>().width * value_bytes<T> > kFilterBytes) {
        Gather<T> half = g;
        half.k = blocks.first(blocks.k_blocks / 2);
        run_winograd(half);
        const std::int64_t done = half.k;
        half.k = g.k - done;
        half.filters += done * g.f_k;
        half.output += done;
        if (half.bias) half.bias += done;
        return run_winograd(half);
    }
    const WinogradForm form(a.r);
    const TileGrid grid(form, a.p, a.q);
    const std::int64_t tiles = g.n * grid.image();
    std::vector<unsigned char> finite(static_cast<std::size_t>(tiles), 1);
    if (blocks.stored)
        with_stored_filters(g, form, grid, blocks, tiles, finite);
    else
        with_streamed_filters(g, form, grid, blocks, tiles, finite);
    // A NaN or infinity, given or made by the transform, spreads over its tile: these tiles are computed directly.
    std::vector<ImageTile> again;
    for (std::int64_t t = 0; t < tiles; ++t) {
        if (finite[static_cast<std::size_t>(t)]) continue;
        const std::int64_t y = grid.y(t), x = grid.x(t);
        again.push_back({grid.n(t), {y, std::min(form.tile, a.p - y), x, std::min(form.tile, a.q - x)}});
        if (again.size() == kTilesAgain) {
            run_direct(g, &again);
            again.clear();
        }
    }
    if (!again.empty()) run_direct(g, &again);
}

template <class T>
Sketch sketch_winograd(const Gather<T>& g) {
    const KernelsOf<T>& kernel = kernels<T>();
    const WinogradForm form(g.windows.r);
    const std::int64_t tiles = g.n * TileGrid(form, g.windows.p, g.windows.q).image();
    const FilterBlocks<T> blocks(g);
    Sketch sketch;
    sketch.kernel = form.tile == 4 ? "conv_row on 36 points of 4x4 tiles" : "conv_row on 36 points of 2x2 tiles";
    sketch.tile_filters = blocks.widest;
    sketch.multiplications = static_cast<double>(kPoints * tiles) * static_cast<double>(g.c * g.k);
    std::int64_t block = 0;
    if (blocks.stored) {
        block = choose_block<T>(tiles, g.c, g.k);
        sketch.tasks = ceil_div(tiles, block);
        sketch.shared_bytes =
            std::min(kPoints * g.c * blocks.vectors * kernel.width * value_bytes<T>, kFilterBytes) + tiles;
        sketch.thread_bytes = kPoints * (block * (g.c + blocks.widest) + 2 * plane_padding<T>)*value_bytes<T>;
    } else {
        std::int64_t chunk = 0;
        choose_chunk(g, tiles, blocks.k_blocks, chunk, block);
        sketch.tasks = ceil_div(chunk, block) * blocks.k_blocks;
        sketch.shared_bytes = kPoints * (chunk * g.c + blocks.c_parts * plane_padding<T>)*value_bytes<T> + tiles;
        sketch.thread_bytes =
            kPoints * (block + ceil_div(g.c, blocks.c_parts) + 1) * (blocks.widest + plane_padding<T>)*value_bytes<T>;
    }
    sketch.tile_pixels = std::min(block, kernel.conv_row_pixels[blocks.widest / kernel.width - 1]);
    return sketch;
}

template bool winograd_serves<float>(const ConvProblem&);
template bool winograd_serves<double>(const ConvProblem&);
template void run_winograd(const Gather<float>&);
template void run_winograd(const Gather<double>&);
template Sketch sketch_winograd(const Gather<float>&);
template Sketch sketch_winograd(const Gather<double>&);

} // namespace fastconv
