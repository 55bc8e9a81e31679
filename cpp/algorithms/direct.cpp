// Plans the direct algorithm: which blocks of channels and filters, which tiles of pixels, what is packed and copied.
//
// Forward and input gradient share one form, the gather: every output pixel reads a window of its input and multiplies
// it with packed filters. Blocks of input channels are outermost and chosen from the layer's parameters and the ISA
// only; tiles of pixels and blocks of filters may depend on anything, since they do not change a single rounding.
#include "algorithms/direct.h"

#include "algorithms/small_k_spread.h"
#include "core/isa.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"

#include <algorithm>
#include <vector>

namespace fastconv {
namespace {

constexpr std::int64_t kSumLength = 1024; // longest chain of additions: bounds the rounding error
// One (filter block, channel block): stays in L2 beside the pixels.
constexpr std::int64_t kFilterBlockBytes = 256 << 10;
constexpr std::int64_t kBandBytes = 192 << 10;
constexpr std::int64_t kPackedBytes = 32 << 20;   // all packed filters of one pass
constexpr std::int64_t kFewPixelsBytes = 1 << 20; // of the input, beside filters that each task packs for itself

struct Blocks {
    std::int64_t vectors, k_blocks, c_blocks, width;
    bool copy_all, copy_borders; // which tiles are copied into bands: those of padded problems, or only their borders
    bool whole_rows;             // a window row may be one run of memory
    bool dots;                   // few filters: vectors along the window instead of along the filters
    bool flat;                   // few filters: vectors along pixels and filters (flat.h)
    std::int64_t run;            // dots: length of a run, rounded up to whole vectors

    /// Filter block b covers vectors [part_start(b), part_start(b+1)).
    std::int64_t first_vector(std::int64_t b) const { return part_start(b, k_blocks, vectors); }
    std::int64_t channel(std::int64_t b, std::int64_t c) const { return part_start(b, c_blocks, c); }
};

template <class T>
Blocks choose_blocks(const Gather<T>& g) {
    const KernelsOf<T>& kernel = kernels<T>();
    Blocks blocks{};
    blocks.width = kernel.width;
    blocks.vectors = ceil_div(g.k, kernel.width);
    blocks.k_blocks = ceil_div(blocks.vectors, kernel.max_vectors);
    const std::int64_t window = g.windows.r * g.windows.s;
    const std::int64_t wide = std::min(blocks.vectors, kernel.max_vectors) * kernel.width;
    const std::int64_t most = std::min(kSumLength, kFilterBlockBytes / (wide * static_cast<std::int64_t>(sizeof(T))));
    blocks.c_blocks = ceil_div(g.c, std::max<std::int64_t>(1, most / window));
    const Windows& a = g.windows;
    const bool in_place = a.dilation_w == 1 && g.pixel == g.c;
    // One step of a dot product takes a vector of a run for each filter, one of the other form a value of the window
    // for each vector of filters; adding a sum's lanes takes as long as some 4 steps.
    std::int64_t steps = 0;
    const auto try_dots = [&](bool whole_rows) {
        const std::int64_t runs = whole_rows ? a.r : window;
        blocks.whole_rows = whole_rows;
        blocks.run = ceil_div(window * g.c / runs, kernel.width) * kernel.width;
        steps = runs * blocks.run / kernel.width;
        blocks.dots =
            g.k <= kernel.max_dots && steps <= kSumLength && (steps + 4) * g.k < window * g.c * blocks.vectors;
    };
    const bool crosses = a.crosses_columns();
    try_dots(in_place && (!crosses || a.overlapping()));
    blocks.flat = flat_pays(g, blocks.dots ? (steps + 4) * g.k : window * g.c * blocks.vectors);
    if (blocks.dots) blocks.k_blocks = blocks.c_blocks = 1;
    // Copying costs little beside the multiplications with many filters, and single pixels at the border cost much
    // where rows are short.
    blocks.copy_all = crosses && a.q < 48;
    blocks.copy_borders = crosses && !blocks.copy_all;
    if (!blocks.dots) blocks.whole_rows = true;
    return blocks;
}

/// Values of the packed filters of one group.
template <class T>
std::int64_t packed_size(const Gather<T>& g, const Blocks& blocks) {
    const Windows& a = g.windows;
    return blocks.dots ? g.k * blocks.run * a.r * (blocks.whole_rows ? 1 : a.s)
                       : a.r * a.s * g.c * blocks.vectors * blocks.width;
}

/// Packs one block of channels and filters as [i][j][c][lane], zero-padded to whole vectors.
template <class T>
void pack_block(const Gather<T>& g, const Blocks& blocks, std::int64_t group, std::int64_t cb, std::int64_t kb, T* to) {
    const std::int64_t c0 = blocks.channel(cb, g.c), c1 = blocks.channel(cb + 1, g.c);
    const std::int64_t k0 = blocks.first_vector(kb) * blocks.width;
    const std::int64_t lanes = blocks.first_vector(kb + 1) * blocks.width - k0;
    const std::int64_t valid = std::min(g.k, k0 + lanes) - k0;
    const T* from = g.filters + group * g.f_group + c0 * g.f_c + k0 * g.f_k;
    for (std::int64_t i = 0; i < g.windows.r; ++i) {
        for (std::int64_t j = 0; j < g.windows.s; ++j) {
            const T* tap = from + i * g.f_i + j * g.f_j;
            if (g.f_c == 1) { // an input gradient's
                if (valid < lanes) std::fill_n(to, (c1 - c0) * lanes, T{});
                kernels<T>().transpose(tap, g.f_k, to, lanes, valid, c1 - c0);
                to += (c1 - c0) * lanes;
                continue;
            }
            for (std::int64_t c = 0; c < c1 - c0; ++c) {
                std::copy_n(tap + c * g.f_c, valid, to); // a forward pass's: f_k is 1
                std::fill(to + valid, to + lanes, T{});
                to += lanes;
            }
        }
    }
}

/// Packs [group][channel block][filter block] of pack_block.
template <class T>
void pack_filters(const Gather<T>& g, const Blocks& blocks, T* packed) {
    const std::int64_t window = g.windows.r * g.windows.s, padded = blocks.vectors * blocks.width;
    const std::int64_t group_size = window * g.c * padded;
    parallel_for(g.groups * blocks.c_blocks * blocks.k_blocks, static_cast<double>(g.groups * group_size),
                 [&](std::int64_t task) {
                     const std::int64_t kb = task % blocks.k_blocks, cb = task / blocks.k_blocks % blocks.c_blocks;
                     const std::int64_t group = task / blocks.k_blocks / blocks.c_blocks;
                     const std::int64_t c0 = blocks.channel(cb, g.c), channels = blocks.channel(cb + 1, g.c) - c0;
                     const std::int64_t k0 = blocks.first_vector(kb) * blocks.width;
                     pack_block(g, blocks, group, cb, kb,
                                packed + group * group_size + window * (c0 * padded + channels * k0));
                 });
}

/// Packs [group][filter][run], zero-padded to whole vectors.
template <class T>
void pack_dots(const Gather<T>& g, const Blocks& blocks, T* packed) {
    const Windows& a = g.windows;
    parallel_for(g.groups * g.k, static_cast<double>(g.groups * g.k * a.r * a.s * g.c), [&](std::int64_t task) {
        const std::int64_t per_row = blocks.whole_rows ? 1 : a.s, taps = a.s / per_row;
        T* to = packed + task * a.r * per_row * blocks.run;
        const T* from = g.filters + task / g.k * g.f_group + task % g.k * g.f_k;
        for (std::int64_t run = 0; run < a.r * per_row; ++run) {
            std::fill_n(to + taps * g.c, blocks.run - taps * g.c, T{});
            for (std::int64_t j = 0; j < taps; ++j) {
                const T* tap = from + run / per_row * g.f_i + (run % per_row + j) * g.f_j;
                for (std::int64_t c = 0; c < g.c; ++c) to[j * g.c + c] = tap[c * g.f_c];
            }
            to += blocks.run;
        }
    });
}

/// How the output is cut into tasks: parts of rows, of columns and of filter blocks.
struct Tiling {
    std::int64_t rows, columns, row_tiles, column_tiles, k_parts;
};

template <class T>
Tiling choose_tiling(const Gather<T>& g, const Blocks& blocks, std::int64_t channels) {
    const Windows& a = g.windows;
    const auto bytes = [&](std::int64_t rows, std::int64_t columns) {
        const std::int64_t values =
            blocks.copy_all ? band_size(a, rows, columns, channels) : rows * columns * a.stride_h * a.stride_w * g.c;
        return values * static_cast<std::int64_t>(sizeof(T));
    };
    Tiling tiling{};
    tiling.columns = a.q;
    while (tiling.columns > 24 && bytes(1, tiling.columns) > kBandBytes) tiling.columns = ceil_div(tiling.columns, 2);
    while (tiling.columns > 1 && bytes(1, tiling.columns) > 8 * kBandBytes)
        tiling.columns = ceil_div(tiling.columns, 2);
    if (tiling.columns < a.q && tiling.columns > 24) tiling.columns = tiling.columns / 24 * 24; // whole register tiles
    tiling.column_tiles = ceil_div(a.q, tiling.columns);
    // Enough tasks for an even share of each thread, but not so small that filters stream from L2 for a few pixels
    // only.
    const std::int64_t wanted = 4 * threads_for_tasks();
    tiling.rows = 1;
    const auto tasks = [&](std::int64_t rows) { return g.n * g.groups * tiling.column_tiles * ceil_div(a.p, rows); };
    while (tiling.rows < a.p && bytes(2 * tiling.rows, tiling.columns) <= kBandBytes &&
           (tasks(2 * tiling.rows) >= wanted || tiling.rows * tiling.columns < 48))
        tiling.rows = std::min(a.p, 2 * tiling.rows);
    tiling.row_tiles = ceil_div(a.p, tiling.rows);
    tiling.rows = ceil_div(a.p, tiling.row_tiles);
    tiling.row_tiles = ceil_div(a.p, tiling.rows);
    tiling.k_parts = std::clamp<std::int64_t>(ceil_div(wanted, tasks(tiling.rows)), 1, blocks.k_blocks);
    return tiling;
}

template <class T>
void run_tile(const Gather<T>& g, const Blocks& blocks, const T* packed, bool copy, std::int64_t image,
              std::int64_t group, const Tile& tile, std::int64_t kb0, std::int64_t kb1, T* band,
              std::ptrdiff_t* segments) {
    const Windows& a = g.windows;
    const KernelsOf<T>& kernel = kernels<T>();
    const std::int64_t window = a.r * a.s, padded = blocks.vectors * blocks.width;
    const T* const input = g.input + image * g.image + group * g.group_in;
    T* const output = g.output + image * g.out_image + group * g.out_group;
    const bool rows_cross = a.crosses_rows(); // spares short rows the divisions
    for (std::int64_t cb = 0; cb < blocks.c_blocks; ++cb) {
        const std::int64_t c0 = blocks.channel(cb, g.c), channels = blocks.channel(cb + 1, g.c) - c0;
        BandLayout layout{a.stride_h * a.w * g.pixel, a.stride_w * g.pixel, a.dilation_h * a.w * g.pixel,
                          a.dilation_w * g.pixel};
        const T* base = input + c0;
        if (copy) {
            layout = band_layout(a, tile.columns, channels);
            fill_band(a, tile, input + c0, g.pixel, channels, band);
            base = band;
        } else {
            base += ((a.base_h + tile.y0 * a.stride_h) * a.w + a.base_w + tile.x0 * a.stride_w) * g.pixel;
        }
        // A window row is one run where its columns and channels are neighbours.
        const bool whole_rows = blocks.whole_rows && layout.window_column == channels;
        for (std::int64_t i = 0; i < a.r; ++i) {
            if (whole_rows) {
                segments[i] = i * layout.window_row;
            } else {
                for (std::int64_t j = 0; j < a.s; ++j)
                    segments[i * a.s + j] = i * layout.window_row + j * layout.window_column;
            }
        }
        const std::int64_t per_row = whole_rows ? 1 : a.s;
        if (blocks.dots) {
            const std::int64_t filter_step = a.r * per_row * blocks.run;
            DotRow<T> row{};
            row.x_step = layout.step;
            row.segment_length = whole_rows ? a.s * channels : channels;
            row.filter_step = filter_step;
            row.filter_count = g.k;
            row.bias = g.bias ? g.bias + group * g.k : nullptr;
            row.y_step = g.out_pixel;
            row.pixels = tile.columns;
            row.accumulate = g.accumulate;
            row.relu = g.relu;
            for (std::int64_t y = 0; y < tile.rows; ++y) {
                std::int64_t first = 0, last = a.r;
                if (rows_cross) valid_taps(a.base_h + (tile.y0 + y) * a.stride_h, a.dilation_h, a.r, a.h, first, last);
                row.x = base + y * layout.row;
                row.segments = segments + first * per_row;
                row.segment_count = (last - first) * per_row;
                row.filters = packed + group * g.k * filter_step + first * per_row * blocks.run;
                row.y = output + (tile.y0 + y) * g.out_row + tile.x0 * g.out_pixel;
                kernel.dot_row(row);
            }
            return;
        }
        ConvRow<T> row{};
        row.x_step = layout.step;
        row.segment_length = whole_rows ? a.s * channels : channels;
        row.y_step = g.out_pixel;
        row.pixels = tile.columns;
        row.accumulate = g.accumulate || cb > 0;
        row.relu = g.relu && cb == blocks.c_blocks - 1;
        for (std::int64_t kb = kb0; kb < kb1; ++kb) {
            const std::int64_t vector = blocks.first_vector(kb), vectors = blocks.first_vector(kb + 1) - vector;
            const std::int64_t k0 = vector * blocks.width, lanes = vectors * blocks.width;
            const T* filters = packed + group * window * g.c * padded + window * (c0 * padded + channels * k0);
            row.channels = std::min(lanes, g.k - k0);
            row.bias = g.bias && cb == blocks.c_blocks - 1 ? g.bias + group * g.k + k0 : nullptr;
            for (std::int64_t y = 0; y < tile.rows; ++y) {
                // Filter rows over the top or bottom padding are left out.
                std::int64_t first = 0, last = a.r;
                if (rows_cross) valid_taps(a.base_h + (tile.y0 + y) * a.stride_h, a.dilation_h, a.r, a.h, first, last);
                row.x = base + y * layout.row;
                row.segments = segments + first * per_row;
                row.segment_count = (last - first) * per_row;
                row.filters = filters + first * a.s * channels * lanes;
                row.y = output + (tile.y0 + y) * g.out_row + tile.x0 * g.out_pixel + k0;
                kernel.conv_row[vectors - 1](row);
            }
        }
    }
}

/// Whether pixels are so few that all of them go through one block of filters after the other: each task packs its own
/// filters into L2 and uses them there, where packed beforehand they would leave the caches and come back. Only 1x1
/// windows, whose filters are as many as the pixels' values.
template <class T>
bool streams_filters(const Gather<T>& g, const Blocks& blocks) {
    const Windows& a = g.windows;
    return a.r == 1 && a.s == 1 && g.groups == 1 && g.cache == nullptr && !blocks.dots && !a.crosses_rows() &&
           !a.crosses_columns() && blocks.k_blocks >= 2 * threads_for_tasks() &&
           g.n * a.p * a.q * g.c <= kFewPixelsBytes / static_cast<std::int64_t>(sizeof(T));
}

template <class T>
void run_streamed(const Gather<T>& g, const Blocks& blocks) {
    const Windows& a = g.windows;
    const double work = 2.0 * static_cast<double>(g.n * a.p * a.q * g.c) * static_cast<double>(g.k);
    parallel_for(blocks.k_blocks, work, [&](std::int64_t kb) {
        const std::int64_t vector = blocks.first_vector(kb), vectors = blocks.first_vector(kb + 1) - vector;
        const std::int64_t k0 = vector * blocks.width, lanes = vectors * blocks.width;
        const Scratch<T> filters(ceil_div(g.c, blocks.c_blocks) * lanes);
        const std::ptrdiff_t start = 0;
        for (std::int64_t cb = 0; cb < blocks.c_blocks; ++cb) {
            pack_block(g, blocks, 0, cb, kb, filters.get());
            const bool last = cb == blocks.c_blocks - 1;
            const std::int64_t c0 = blocks.channel(cb, g.c);
            ConvRow<T> row{};
            row.x_step = a.stride_w * g.pixel;
            row.segments = &start;
            row.segment_count = 1;
            row.segment_length = blocks.channel(cb + 1, g.c) - c0;
            row.filters = filters.get();
            row.y_step = g.out_pixel;
            row.pixels = a.q;
            row.channels = std::min(lanes, g.k - k0);
            row.bias = g.bias && last ? g.bias + k0 : nullptr;
            row.accumulate = g.accumulate || cb > 0;
            row.relu = g.relu && last;
            for (std::int64_t y = 0; y < g.n * a.p; ++y) {
                const std::int64_t n = y / a.p, h = y % a.p;
                row.x = g.input + n * g.image + ((a.base_h + h * a.stride_h) * a.w + a.base_w) * g.pixel + c0;
                row.y = g.output + n * g.out_image + h * g.out_row + k0;
                kernels<T>().conv_row[vectors - 1](row);
            }
        }
    });
}

/// Pixels of a 1x1 problem with stride 1 are one long row.
template <class T>
Gather<T> fold_pixels(Gather<T> g) {
    const Windows a = g.windows;
    const bool dense = a.r == 1 && a.s == 1 && a.stride_h == 1 && a.stride_w == 1 && a.base_h == 0 && a.base_w == 0 &&
                       a.p == a.h && a.q == a.w && g.image == a.h * a.w * g.pixel && g.out_row == a.q * g.out_pixel &&
                       g.out_image == a.p * g.out_row;
    if (!dense) return g;
    g.windows.w = g.windows.q = g.n * a.p * a.q;
    g.windows.h = g.windows.p = 1;
    g.n = std::min<std::int64_t>(g.n, 1);
    return g;
}

template <class T>
void fill_with_zeros(const Gather<T>& g) {
    const Windows& a = g.windows;
    const std::int64_t channels = g.groups * g.k;
    parallel_for(g.n * a.p, static_cast<double>(g.n * a.p * a.q * channels), [&](std::int64_t task) {
        T* row = g.output + task / a.p * g.out_image + task % a.p * g.out_row;
        for (std::int64_t x = 0; x < a.q; ++x) std::fill_n(row + x * g.out_pixel, channels, T{});
    });
}

} // namespace

template <class T>
void run_direct(const Gather<T>& gather, const std::vector<ImageTile>* only) {
    const Gather<T> g = only ? gather : fold_pixels(gather);
    const Windows& a = g.windows;
    if (g.n == 0 || a.p == 0 || a.q == 0) return;
    if (a.r == 0 || a.s == 0) return fill_with_zeros(g);
    const Blocks blocks = choose_blocks(g);
    if (blocks.flat && only == nullptr) return run_flat(g);
    const std::int64_t window = a.r * a.s;
    const std::int64_t group_size = packed_size(g, blocks);
    // What does not fit is done in parts, one after the other: windows (also to bound the length of a sum), groups,
    // filters, channels.
    const auto halves = [&](std::int64_t size, auto&& set) {
        for (std::int64_t part = 0; part < 2; ++part) {
            Gather<T> half = g;
            const std::int64_t start = part * (size / 2);
            set(half, start, part == 0 ? size / 2 : size - start);
            run_direct(half, only);
        }
    };
    const auto sums = [&](Gather<T>& half, std::int64_t start) { // the parts of a sum
        if (start == 0) {
            half.bias = nullptr;
            half.relu = false;
        } else {
            half.accumulate = true;
        }
    };
    const bool too_big = group_size * g.groups * static_cast<std::int64_t>(sizeof(T)) > kPackedBytes;
    if (window > kSumLength && a.r > 1) {
        return halves(a.r, [&](Gather<T>& half, std::int64_t start, std::int64_t size) {
            half.windows.r = size;
            half.windows.base_h += start * a.dilation_h;
            half.filters += start * g.f_i;
            sums(half, start);
        });
    }
    if (window > kSumLength) {
        return halves(a.s, [&](Gather<T>& half, std::int64_t start, std::int64_t size) {
            half.windows.s = size;
            half.windows.base_w += start * a.dilation_w;
            half.filters += start * g.f_j;
            sums(half, start);
        });
    }
    if (too_big && g.groups > 1) {
        return halves(g.groups, [&](Gather<T>& half, std::int64_t start, std::int64_t size) {
            half.groups = size;
            half.input += start * g.group_in;
            half.filters += start * g.f_group;
            half.output += start * g.out_group;
            if (half.bias) half.bias += start * g.k;
        });
    }
    if (too_big && blocks.k_blocks > 1) {
        return halves(g.k, [&](Gather<T>& half, std::int64_t start, std::int64_t size) {
            half.k = size;
            half.filters += start * g.f_k;
            half.output += start;
            if (half.bias) half.bias += start;
        });
    }
    if (too_big && g.c > 1) {
        return halves(g.c, [&](Gather<T>& half, std::int64_t start, std::int64_t size) {
            half.c = size;
            half.input += start;
            half.filters += start * g.f_c;
            sums(half, start);
        });
    }

    if (only == nullptr && streams_filters(g, blocks)) return run_streamed(g, blocks);
    const PackKey key = pack_key(g, Algorithm::direct,
                                 {blocks.k_blocks, blocks.c_blocks, blocks.dots ? blocks.run : 0, blocks.whole_rows});
    const Packed<T> packed(g.cache, key, group_size * g.groups, [&](T* to) {
        if (blocks.dots)
            pack_dots(g, blocks, to);
        else
            pack_filters(g, blocks, to);
    });
    const std::int64_t widest = ceil_div(g.c, blocks.c_blocks);
    const auto compute = [&](std::int64_t image, std::int64_t group, const Tile& tile, std::int64_t kb0,
                             std::int64_t kb1) {
        const Scratch<std::ptrdiff_t> segments(window);
        const auto part = [&](std::int64_t x0, std::int64_t x1, bool copy) {
            Tile columns{tile.y0, tile.rows, std::max(x0, tile.x0), 0};
            const std::int64_t end = std::min(x1, tile.x0 + tile.columns);
            while (columns.x0 < end) {
                columns.columns = end - columns.x0;
                const auto bytes = [&] {
                    return band_size(a, tile.rows, columns.columns, widest) * std::int64_t{sizeof(T)};
                };
                while (copy && columns.columns > 1 && bytes() > 8 * kBandBytes)
                    columns.columns = ceil_div(columns.columns, 2);
                const Scratch<T> band(copy ? band_size(a, tile.rows, columns.columns, widest) : 0);
                run_tile(g, blocks, packed.get(), copy, image, group, columns, kb0, kb1, band.get(), segments.get());
                columns.x0 += columns.columns;
            }
        };
        if (!blocks.copy_borders) return part(0, a.q, blocks.copy_all);
        std::int64_t first = 0, last = 0;
        inner_columns(a, first, last);
        part(0, first, true);
        part(first, last, false);
        part(last, a.q, true);
    };
    const double pixel_work = 2.0 * static_cast<double>(g.groups * window * g.c * g.k);
    if (only) {
        const auto count = static_cast<std::int64_t>(only->size());
        parallel_for(count * g.groups, pixel_work * static_cast<double>(16 * count), [&](std::int64_t task) {
            const ImageTile& at = (*only)[static_cast<std::size_t>(task / g.groups)];
            compute(at.image, task % g.groups, at.tile, 0, blocks.k_blocks);
        });
        return;
    }
    const Tiling tiling = choose_tiling(g, blocks, widest);
    const std::int64_t tiles = tiling.row_tiles * tiling.column_tiles;
    const double work = pixel_work * static_cast<double>(g.n * a.p * a.q);
    parallel_for(g.n * g.groups * tiles * tiling.k_parts, work, [&](std::int64_t task) {
        const std::int64_t k_part = task % tiling.k_parts;
        const std::int64_t at = task / tiling.k_parts % tiles, image_group = task / tiling.k_parts / tiles;
        Tile tile{};
        tile.y0 = at / tiling.column_tiles * tiling.rows;
        tile.x0 = at % tiling.column_tiles * tiling.columns;
        tile.rows = std::min(tiling.rows, a.p - tile.y0);
        tile.columns = std::min(tiling.columns, a.q - tile.x0);
        compute(image_group / g.groups, image_group % g.groups, tile,
                part_start(k_part, tiling.k_parts, blocks.k_blocks),
                part_start(k_part + 1, tiling.k_parts, blocks.k_blocks));
    });
}

namespace {

constexpr std::int64_t kPartialBytes = 24 << 20; // all partial sums of a filter gradient
constexpr std::int64_t kLargeSumBytes = 4 << 20;
constexpr std::int64_t kGradientTasks = 32;   // enough for 16 threads; fixed, since it decides the order of the sum
constexpr std::int64_t kGradientPixels = 256; // of a tile: the length of the inner sums
constexpr std::int64_t kGradientBandBytes = 64 << 10; // the x of a tile: near L1, while dy streams by from L2
constexpr std::int64_t kLeastChannels = 24;           // of a block: x is then read in runs of a cache line or more

/// Tiles of output pixels of a filter gradient.
Tiling gradient_tiling(const Windows& a, std::int64_t channels, std::int64_t size) {
    Tiling tiling{};
    const auto bytes = [&](std::int64_t rows, std::int64_t columns) {
        return band_size(a, rows, columns, channels) * size;
    };
    tiling.columns = a.q;
    while (tiling.columns > 1 && (tiling.columns > kGradientPixels || bytes(1, tiling.columns) > 2 * kBandBytes))
        tiling.columns = ceil_div(tiling.columns, 2);
    tiling.column_tiles = ceil_div(a.q, tiling.columns);
    tiling.rows = 1;
    while (tiling.rows < a.p && (tiling.rows + 1) * tiling.columns <= kGradientPixels &&
           bytes(tiling.rows + 1, tiling.columns) <= kBandBytes)
        ++tiling.rows;
    tiling.row_tiles = ceil_div(a.p, tiling.rows);
    tiling.rows = ceil_div(a.p, tiling.row_tiles);
    tiling.row_tiles = ceil_div(a.p, tiling.rows);
    return tiling;
}

/// How a filter gradient is cut. Nothing here may depend on the number of threads: it decides the order of the sums.
struct GradientPlan {
    Windows a;
    std::int64_t images;
    bool copy; // tiles are copied into bands
    // Blocks of filters and of channels; each (group, channel block, filter part) is summed on its own.
    std::int64_t vectors, k_blocks, c_blocks, k_parts;
    Tiling tiling;
    std::int64_t tiles, splits; // the tiles are cut into `splits` parts with sums of their own

    std::int64_t tasks(std::int64_t groups) const { return splits * groups * c_blocks * k_parts; }
};

template <class T>
GradientPlan plan_filter_gradient(const ConvProblem& o) {
    const KernelsOf<T>& kernel = kernels<T>();
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    const std::int64_t c = o.c / o.groups, k = o.k / o.groups, total = o.r * o.s * c * o.k;
    GradientPlan plan{};
    Windows& a = plan.a = windows_of(o);
    plan.images = o.n;
    if (o.r == 1 && o.s == 1 && o.stride_h == 1 && o.stride_w == 1 && o.p == o.h && o.q == o.w && o.pad_top == 0 &&
        o.pad_left == 0) { // one long row of pixels
        a.w = a.q = o.n * o.p * o.q;
        a.h = a.p = 1;
        plan.images = std::min<std::int64_t>(o.n, 1);
    }
    plan.vectors = ceil_div(k, kernel.width);
    plan.k_blocks = ceil_div(plan.vectors, kernel.max_vectors);
    // Many channels lie so far apart from pixel to pixel that each is on a page of its own, and all fall into the same
    // sets of L1: blocks of them are copied together, which pays from two blocks of filters on.
    const std::int64_t columns = std::min(a.q, kGradientPixels),
                       rows = std::min(a.p, ceil_div(kGradientPixels, columns));
    const std::int64_t channel_bytes = band_size(a, rows, columns, 1) * size;
    const std::int64_t fit = std::max(kLeastChannels, kGradientBandBytes / channel_bytes);
    plan.c_blocks = plan.k_blocks > 1 ? ceil_div(c, fit) : 1;
    while (plan.c_blocks < c &&
           band_size(a, 1, std::min<std::int64_t>(a.q, 16), ceil_div(c, plan.c_blocks)) * size > kBandBytes)
        ++plan.c_blocks;
    plan.copy = plan.c_blocks > 1 || a.crosses_columns() || a.crosses_rows();
    // Pixels are cut into parts with partial sums of their own, if these fit; then filters and channels are. Sums that
    // would leave L2 are not doubled where cutting filters, whose parts each read all of x, gives as many tasks.
    plan.k_parts = 1;
    if (total * size > kLargeSumBytes)
        plan.k_parts = std::min(plan.k_blocks, ceil_div(kGradientTasks, o.groups * plan.c_blocks));
    const std::int64_t splits_that_fit = std::clamp<std::int64_t>(kPartialBytes / (total * size), 1, kGradientTasks);
    const auto tasks_now = [&] { return splits_that_fit * o.groups * plan.c_blocks * plan.k_parts; };
    if (tasks_now() < kGradientTasks)
        plan.k_parts = std::min(plan.k_blocks, plan.k_parts * ceil_div(kGradientTasks, tasks_now()));
    if (tasks_now() < kGradientTasks)
        plan.c_blocks = std::min(c, plan.c_blocks * ceil_div(kGradientTasks, tasks_now()));
    plan.tiling = gradient_tiling(a, ceil_div(c, plan.c_blocks), size);
    plan.tiles = plan.images * plan.tiling.row_tiles * plan.tiling.column_tiles;
    const std::int64_t wanted = ceil_div(kGradientTasks, o.groups * plan.c_blocks * plan.k_parts);
    const std::int64_t pays = gradient_parts_that_pay(plan.images * a.p * a.q, total);
    plan.splits = std::clamp<std::int64_t>(std::min(plan.tiles, pays), 1, std::min(splits_that_fit, wanted));
    return plan;
}

} // namespace

template <class T>
void direct_filter_gradient(const ConvProblem& o, const T* input, const T* dy, T* dw) {
    if (flat_filter_gradient_pays<T>(o)) return flat_filter_gradient(o, input, dy, dw);
    const KernelsOf<T>& kernel = kernels<T>();
    const std::int64_t c = o.c / o.groups, k = o.k / o.groups, total = o.r * o.s * c * o.k;
    const std::int64_t image = o.h * o.w * o.c, dy_image = o.p * o.q * o.k;
    const GradientPlan plan = plan_filter_gradient<T>(o);
    const Windows& a = plan.a;
    const Tiling& tiling = plan.tiling;
    const std::int64_t k_parts = plan.k_parts, c_blocks = plan.c_blocks, k_blocks = plan.k_blocks;
    const std::int64_t tiles = plan.tiles, splits = plan.splits, vectors = plan.vectors;
    const bool copy = plan.copy;
    const Scratch<T> partial((splits - 1) * total); // the first split sums into dw itself
    const double work = 2.0 * static_cast<double>(plan.images * a.p * a.q) * static_cast<double>(o.r * o.s * c * o.k);
    parallel_for(plan.tasks(o.groups), work, [&](std::int64_t task) {
        const std::int64_t k_part = task % k_parts, cb = task / k_parts % c_blocks;
        const std::int64_t group = task / k_parts / c_blocks % o.groups, split = task / k_parts / c_blocks / o.groups;
        const std::int64_t kb0 = part_start(k_part, k_parts, k_blocks), kb1 = part_start(k_part + 1, k_parts, k_blocks);
        const std::int64_t c0 = part_start(cb, c_blocks, c), channels = part_start(cb + 1, c_blocks, c) - c0;
        T* const sum = split == 0 ? dw : partial.get() + (split - 1) * total;
        const std::int64_t first_k = part_start(kb0, k_blocks, vectors) * kernel.width;
        const std::int64_t last_k = std::min(k, part_start(kb1, k_blocks, vectors) * kernel.width);
        for (std::int64_t tap = 0; tap < o.r * o.s; ++tap)
            for (std::int64_t i = c0; i < c0 + channels; ++i)
                std::fill(sum + (tap * c + i) * o.k + group * k + first_k,
                          sum + (tap * c + i) * o.k + group * k + last_k, T{});
        const Scratch<T> band(copy ? band_size(a, tiling.rows, tiling.columns, channels) : 0);
        const std::int64_t window = o.r * o.s * channels;
        const Scratch<std::ptrdiff_t> offsets(window), out_offsets(window);
        for (std::int64_t m = 0; m < window; ++m)
            out_offsets.get()[m] = (m / channels * c + c0 + m % channels) * o.k + group * k;
        for (std::int64_t at = part_start(split, splits, tiles); at < part_start(split + 1, splits, tiles); ++at) {
            const std::int64_t n = at / (tiling.row_tiles * tiling.column_tiles);
            const std::int64_t inside = at % (tiling.row_tiles * tiling.column_tiles);
            Tile tile{};
            tile.y0 = inside / tiling.column_tiles * tiling.rows;
            tile.x0 = inside % tiling.column_tiles * tiling.columns;
            tile.rows = std::min(tiling.rows, a.p - tile.y0);
            tile.columns = std::min(tiling.columns, a.q - tile.x0);
            BandLayout layout{a.stride_h * a.w * o.c, a.stride_w * o.c, a.dilation_h * a.w * o.c, a.dilation_w * o.c};
            const T* x = input + n * image + group * c + c0;
            if (copy) {
                layout = band_layout(a, tile.columns, channels);
                fill_band(a, tile, x, o.c, channels, band.get());
                x = band.get();
            } else {
                x += ((a.base_h + tile.y0 * a.stride_h) * a.w + a.base_w + tile.x0 * a.stride_w) * o.c;
            }
            std::ptrdiff_t* offset = offsets.get();
            for (std::int64_t i = 0; i < o.r; ++i)
                for (std::int64_t j = 0; j < o.s; ++j)
                    for (std::int64_t channel = 0; channel < channels; ++channel)
                        *offset++ = i * layout.window_row + j * layout.window_column + channel;
            OuterProducts<T> products{};
            products.x = x;
            products.x_row = layout.row;
            products.x_step = layout.step;
            products.dy_row = a.q * o.k;
            products.dy_step = o.k;
            products.rows = tile.rows;
            products.pixels = tile.columns;
            const T* gradient = dy + n * dy_image + (tile.y0 * a.q + tile.x0) * o.k + group * k;
            for (std::int64_t kb = kb0; kb < kb1; ++kb) {
                const std::int64_t vector = part_start(kb, k_blocks, vectors);
                const std::int64_t count = part_start(kb + 1, k_blocks, vectors) - vector;
                const std::int64_t k0 = vector * kernel.width, most = kernel.outer_products_count[count - 1];
                products.dy = gradient + k0;
                products.channels = std::min(k - k0, count * kernel.width);
                products.out = sum + k0;
                // One vector of filters: neighbours in a row of the window need one pointer, not one for each.
                const bool runs = count == 1 && layout.window_column == channels && window / o.r >= most / 2;
                const std::int64_t parts = runs ? o.r : 1, calls = ceil_div(window / parts, most);
                for (std::int64_t call = 0; call < parts * calls; ++call) {
                    const std::int64_t m = part_start(call, parts * calls, window);
                    products.count = part_start(call + 1, parts * calls, window) - m;
                    products.offsets = offsets.get() + m;
                    products.out_offsets = out_offsets.get() + m;
                    kernel.outer_products[count - 1](products);
                }
            }
        }
    });
    if (splits == 1) return;
    constexpr std::int64_t block = 4096;
    parallel_for(ceil_div(total, block), static_cast<double>(total * splits), [&](std::int64_t task) {
        const std::int64_t first = task * block, last = std::min(total, first + block);
        for (std::int64_t split = 1; split < splits; ++split) {
            const T* from = partial.get() + (split - 1) * total;
            for (std::int64_t i = first; i < last; ++i) dw[i] += from[i];
        }
    });
}

template <class T>
Sketch sketch_direct(const Gather<T>& gather) {
    const Gather<T> g = fold_pixels(gather);
    const Windows& a = g.windows;
    Sketch sketch;
    if (g.n == 0 || a.p == 0 || a.q == 0 || a.r == 0 || a.s == 0) return sketch;
    const Blocks blocks = choose_blocks(g);
    if (blocks.flat) return sketch_flat(g);
    const KernelsOf<T>& kernel = kernels<T>();
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    const std::int64_t channels = ceil_div(g.c, blocks.c_blocks);
    const Tiling tiling = choose_tiling(g, blocks, channels);
    const std::int64_t vectors = ceil_div(blocks.vectors, blocks.k_blocks);
    sketch.kernel = blocks.dots ? "dot_row" : "conv_row";
    sketch.tile_pixels = blocks.dots ? 1 : std::min(a.q, kernel.conv_row_pixels[vectors - 1]);
    sketch.tile_filters = blocks.dots ? g.k : vectors * kernel.width;
    sketch.tasks = g.n * g.groups * tiling.row_tiles * tiling.column_tiles * tiling.k_parts;
    sketch.shared_bytes = std::min(packed_size(g, blocks) * g.groups * size, kPackedBytes);
    const bool copies = blocks.copy_all || blocks.copy_borders;
    const std::int64_t band = copies ? band_size(a, tiling.rows, tiling.columns, channels) * size : 0;
    sketch.thread_bytes = std::min(band, 8 * kBandBytes) + a.r * a.s * std::int64_t{sizeof(std::ptrdiff_t)};
    if (streams_filters(g, blocks)) {
        sketch.tasks = blocks.k_blocks;
        sketch.shared_bytes = 0;
        sketch.thread_bytes = channels * vectors * kernel.width * size;
    }
    sketch.multiplications =
        static_cast<double>(g.n * a.p * a.q) * static_cast<double>(g.groups * a.r * a.s * g.c * g.k);
    return sketch;
}

template <class T>
Sketch sketch_direct_filter_gradient(const ConvProblem& o) {
    if (flat_filter_gradient_pays<T>(o)) return sketch_flat_filter_gradient<T>(o);
    const GradientPlan plan = plan_filter_gradient<T>(o);
    const KernelsOf<T>& kernel = kernels<T>();
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    const std::int64_t c = o.c / o.groups, channels = ceil_div(c, plan.c_blocks);
    const std::int64_t vectors = ceil_div(plan.vectors, plan.k_blocks);
    Sketch sketch;
    sketch.kernel = "outer_products";
    sketch.tile_pixels = std::min(o.r * o.s * c, kernel.outer_products_count[vectors - 1]);
    sketch.tile_filters = vectors * kernel.width;
    sketch.tasks = plan.tasks(o.groups);
    sketch.shared_bytes = (plan.splits - 1) * o.r * o.s * c * o.k * size;
    sketch.thread_bytes = 2 * o.r * o.s * channels * std::int64_t{sizeof(std::ptrdiff_t)};
    if (plan.copy) sketch.thread_bytes += band_size(plan.a, plan.tiling.rows, plan.tiling.columns, channels) * size;
    sketch.multiplications = static_cast<double>(o.n * o.p * o.q) * static_cast<double>(o.r * o.s * c * o.k);
    return sketch;
}

template void run_direct(const Gather<float>&, const std::vector<ImageTile>*);
template void run_direct(const Gather<double>&, const std::vector<ImageTile>*);
template void direct_filter_gradient(const ConvProblem&, const float*, const float*, float*);
template void direct_filter_gradient(const ConvProblem&, const double*, const double*, double*);

template Sketch sketch_direct(const Gather<float>&);
template Sketch sketch_direct(const Gather<double>&);
template Sketch sketch_direct_filter_gradient<float>(const ConvProblem&);
template Sketch sketch_direct_filter_gradient<double>(const ConvProblem&);

} // namespace fastconv
