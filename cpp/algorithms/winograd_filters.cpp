#include "algorithms/winograd_filters.h"

#include "core/isa.h"
#include "core/workspace.h"
#include "kernels/winograd_points.h"

namespace fastconv {
namespace {

constexpr std::int64_t kAhead = 4; // how many channels ahead taps are prefetched

constexpr std::int64_t kPartBytes = 320 << 10;  // one part of streamed filters
constexpr std::int64_t kStoredBytes = 10 << 20; // transformed filters that are larger leave the caches
// If an image has at most this many tiles, large filters are streamed, because each stored filter would be used too
// rarely.
constexpr std::int64_t kMostTilesStreamed = 64;
// If the whole batch has at most kFewTiles tiles, each thread should read only a part of the filters. Filters packed
// for one call are then streamed, if they have more than kStoredForFewBytes. For one image, a layer of 14x14x256 then
// takes 0.67 ms instead of 0.86 ms. For eight images, streaming saves no time. Filters that stay are stored. If they
// have more than kByFiltersBytes, each task takes a block of filters. The same layer then takes 0.26 ms instead of 0.31
// ms, if the filters come from memory.
constexpr std::int64_t kFewTiles = 100, kStoredForFewBytes = 4 << 20, kByFiltersBytes = 6 << 20;

template <class T>
std::int64_t transformed_bytes(std::int64_t c, std::int64_t k) {
    return kPoints * c * k * static_cast<std::int64_t>(sizeof(T));
}

/// Whether an image has too few tiles for large filters to be stored.
bool streams(std::int64_t bytes, const TileGrid& grid, std::int64_t most_stored) {
    return bytes > most_stored && grid.tiles_per_image() <= kMostTilesStreamed;
}

} // namespace

template <class T>
WinogradFilters choose_winograd_filters(const Correlation& g, bool filters_stay) {
    const KernelsOf<T>& kernel = kernels<T>();
    WinogradFilters f{};
    f.width = kernel.width;
    f.vectors = ceil_div(g.k, kernel.width);
    const TileGrid grid(WinogradForm(g.windows.r), g.windows.p, g.windows.q);
    const std::int64_t bytes = transformed_bytes<T>(g.c, g.k);
    const bool few_tiles = g.n * grid.tiles_per_image() <= kFewTiles;
    cut_winograd_filters<T>(f, g.c, ceil_div(f.vectors, kernel.max_vectors),
                            !streams(bytes, grid, few_tiles && !filters_stay ? kStoredForFewBytes : kStoredBytes));
    f.by_filters = !f.stored || (few_tiles && filters_stay && bytes > kByFiltersBytes);
    return f;
}

template <class T>
void cut_winograd_filters(WinogradFilters& f, std::int64_t channels, std::int64_t k_blocks, bool stored) {
    f.k_blocks = k_blocks;
    f.widest_filters = ceil_div(f.vectors, k_blocks) * f.width;
    f.stored = stored;
    const std::int64_t channel_bytes = kPoints * f.widest_filters * static_cast<std::int64_t>(sizeof(T));
    f.c_parts = stored ? 1 : ceil_div(channels, std::max<std::int64_t>(1, kPartBytes / channel_bytes));
}

template <class T>
bool streams_filters(const ConvProblem& o) {
    return streams(transformed_bytes<T>(o.c, o.k), TileGrid(WinogradForm(o.r), o.p, o.q), kStoredBytes);
}

template <class T>
void transform_filters(const Correlation& g, const WinogradForm& form, const T* filters, std::int64_t c0,
                       std::int64_t c1, std::int64_t k0, std::int64_t lanes, T* to, std::int64_t plane) {
    const KernelsOf<T>& kernel = kernels<T>();
    constexpr std::int64_t strip = 16; // channels whose taps are transposed at once
    const std::int64_t valid = std::min(g.k - k0, lanes), window = form.window;
    const bool in_place = g.f_k == 1 && valid == lanes;
    const Scratch<T> taps(in_place ? 0 : window * window * strip * lanes);
    WinogradTile<T> tile{};
    tile.row1 = tile.column1 = window;
    tile.channels = lanes;
    tile.plane = plane;
    for (std::int64_t first = c0; first < c1; first += strip) {
        const std::int64_t count = std::min(strip, c1 - first);
        const T* from = filters + g.filters_start + first * g.f_c + k0 * g.f_k;
        if (!in_place) {
            if (valid < lanes) std::fill_n(taps.get(), window * window * strip * lanes, T{});
            for (std::int64_t i = 0; i < window; ++i) {
                for (std::int64_t j = 0; j < window; ++j) {
                    T* tap = taps.get() + (i * window + j) * strip * lanes;
                    const T* source = from + i * g.f_i + j * g.f_j;
                    if (g.f_c == 1)
                        kernel.transpose(source, g.f_k, tap, lanes, valid, count);
                    else // f_k is 1, so the filters are neighbours in memory
                        for (std::int64_t c = 0; c < count; ++c)
                            std::copy_n(source + c * g.f_c, valid, tap + c * lanes);
                }
            }
        }
        for (std::int64_t c = 0; c < count; ++c) {
            // Each tap of a channel is a run of a few cache lines, which is too short for the hardware prefetcher.
            for (std::int64_t tap = 0; in_place && c + kAhead < c1 - first && tap < window * window; ++tap) {
                const T* ahead = from + (c + kAhead) * g.f_c + tap / window * g.f_i + tap % window * g.f_j;
                for (std::int64_t lane = 0; lane < lanes; lane += 64 / static_cast<std::int64_t>(sizeof(T)))
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

#define FASTCONV_WINOGRAD_FILTERS(T)                                                                                   \
    template WinogradFilters choose_winograd_filters<T>(const Correlation&, bool);                                     \
    template void cut_winograd_filters<T>(WinogradFilters&, std::int64_t, std::int64_t, bool);                         \
    template bool streams_filters<T>(const ConvProblem&);                                                              \
    template void transform_filters(const Correlation&, const WinogradForm&, const T*, std::int64_t, std::int64_t,     \
                                    std::int64_t, std::int64_t, T*, std::int64_t);
FASTCONV_WINOGRAD_FILTERS(float)
FASTCONV_WINOGRAD_FILTERS(double)

} // namespace fastconv
