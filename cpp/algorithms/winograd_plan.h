// The plan of Winograd's forward pass and input gradient: how the work is cut into tasks.
#pragma once

#include "algorithms/algorithm.h"
#include "algorithms/winograd_filters.h"

namespace fastconv {

constexpr std::int64_t kWinogradFilterBytes = 24 << 20; // transformed filters of one pass
constexpr std::int64_t kInputTiles = 4;                 // most tiles of a task that transforms input only

template <class T>
constexpr std::int64_t value_bytes = static_cast<std::int64_t>(sizeof(T));

struct WinogradDecisions : Decisions {
    explicit WinogradDecisions(const Request& request)
        : layer(request.layer), direction(request.direction), threads(request.threads),
          filters_stay(request.filters_stay), planes(request.planes), g(request.part), form(g.windows.r),
          grid(form, g.windows.p, g.windows.q), tiles(g.n * grid.tiles_per_image()) {}

    /// The request for tiles that must be computed again.
    Request again() const {
        Request request{layer, direction, g, threads, filters_stay};
        request.only_direct = request.single = true;
        return request;
    }

    ConvProblem layer;
    Direction direction;
    std::int64_t threads;
    bool filters_stay;
    bool planes; // whether the images are NCHW. `g` then has the strides of NHWC nevertheless
    Correlation g;
    WinogradForm form;
    TileGrid grid;
    std::int64_t tiles;
    WinogradFilters filters{};
    std::int64_t block = 0; // tiles of a task
    // The tiles whose input is transformed at once, if tasks take blocks of filters. 0 if they take blocks of tiles.
    std::int64_t chunk = 0;
    std::int64_t input_tiles = kInputTiles; // tiles of a task that transforms the input of a chunk
    PackKey key{};

    Tasks filter_tasks() const {
        return moving_tasks(filters.k_blocks * ceil_div(g.c, kFilterStrip), kPoints * g.c * g.k);
    }
    /// The tasks that take blocks of tiles.
    Tasks tile_tasks() const { return {ceil_div(tiles, block), 2.0 * summary.multiplications}; }
    /// If tasks take blocks of filters: those of a chunk of `count` tiles, for its input and for the products.
    Tasks input_tasks(std::int64_t count) const {
        return moving_tasks(ceil_div(count, input_tiles), count * kPoints * g.c);
    }
    Tasks product_tasks(std::int64_t count) const {
        return {ceil_div(count, block) * filters.k_blocks,
                2.0 * static_cast<double>(kPoints * count * g.c) * static_cast<double>(g.k)};
    }
    std::vector<Phase> phases() const override;
};

/// Chooses the order of work and the blocks. The filters must be chosen.
template <class T>
void choose_winograd_cut(WinogradDecisions& d);

} // namespace fastconv
