#include "algorithms/tiled_correlation.h"

namespace fastconv {
namespace {

constexpr std::int64_t kTileBytes = 192 << 10; // the most input of a tile, which stays in L2 with a block of filters
static_assert(kMostCopyBytes == 8 * kTileBytes);

Tiling choose_tiling(const Correlation& g, const TilePlan& plan, std::int64_t threads, std::int64_t size) {
    const Windows& a = g.windows;
    const auto bytes = [&](std::int64_t rows, std::int64_t columns) { // as a double: strides may be huge
        const double values = plan.copy_all
                                  ? static_cast<double>(padded_tile_size(a, rows, columns, plan.widest_channels))
                                  : static_cast<double>(rows * columns * g.c) * static_cast<double>(a.stride_h) *
                                        static_cast<double>(a.stride_w);
        return values * static_cast<double>(size);
    };
    Tiling tiling{};
    tiling.columns = a.q;
    while (tiling.columns > 24 && bytes(1, tiling.columns) > kTileBytes) tiling.columns = ceil_div(tiling.columns, 2);
    while (tiling.columns > 1 && bytes(1, tiling.columns) > 8 * kTileBytes)
        tiling.columns = ceil_div(tiling.columns, 2);
    if (tiling.columns < a.q && tiling.columns > 24) tiling.columns = tiling.columns / 24 * 24; // whole register tiles
    tiling.column_tiles = ceil_div(a.q, tiling.columns);
    // Make enough tasks to give each thread an even share. But a task must not be so small that it reads filters from
    // L2 for a few pixels only.
    const std::int64_t wanted = 4 * threads;
    tiling.rows = 1;
    const auto tasks = [&](std::int64_t rows) { return g.n * g.groups * tiling.column_tiles * ceil_div(a.p, rows); };
    while (tiling.rows < a.p && bytes(2 * tiling.rows, tiling.columns) <= kTileBytes &&
           (tasks(2 * tiling.rows) >= wanted || tiling.rows * tiling.columns < 48))
        tiling.rows = std::min(a.p, 2 * tiling.rows);
    tiling.row_tiles = ceil_div(a.p, tiling.rows);
    tiling.rows = ceil_div(a.p, tiling.row_tiles);
    tiling.row_tiles = ceil_div(a.p, tiling.rows);
    tiling.k_parts = std::clamp<std::int64_t>(ceil_div(wanted, tasks(tiling.rows)), 1, plan.k_blocks);
    return tiling;
}

} // namespace

TilePlan plan_tiles(const Correlation& g, std::int64_t k_blocks, std::int64_t widest_channels, std::int64_t threads,
                    std::int64_t size) {
    const Windows& a = g.windows;
    TilePlan plan{};
    plan.k_blocks = k_blocks;
    plan.widest_channels = widest_channels;
    // Copying costs little compared with the multiplications. In short rows, tiles of border pixels would cost more.
    plan.copy_all = a.crosses_columns() && a.q < 48;
    plan.copy_borders = a.crosses_columns() && !plan.copy_all;
    plan.tiling = choose_tiling(g, plan, threads, size);
    return plan;
}

std::int64_t TilePlan::thread_bytes(const Correlation& g, std::int64_t size) const {
    const bool copies = copy_all || copy_borders;
    const std::int64_t copy =
        copies ? padded_tile_size(g.windows, tiling.rows, tiling.columns, widest_channels) * size : 0;
    return std::min(copy, kMostCopyBytes) + g.window() * std::int64_t{sizeof(std::ptrdiff_t)};
}

} // namespace fastconv
