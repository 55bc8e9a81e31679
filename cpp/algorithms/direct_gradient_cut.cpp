#include "algorithms/direct_gradient_cut.h"

#include "algorithms/gradient_lanes.h"
#include "algorithms/gradient_parts.h"
#include "core/isa.h"

#include <algorithm>

namespace fastconv {
namespace {

constexpr std::int64_t kTileBytes = 192 << 10;
constexpr std::int64_t kPartialBytes = 24 << 20; // all partial sums
constexpr std::int64_t kLargeSumBytes = 4 << 20;
constexpr std::int64_t kTilePixels = 256;      // the length of the inner sums
constexpr std::int64_t kBlockBytes = 64 << 10; // the input of a tile; most of it stays in L1, while dy is read from L2
constexpr std::int64_t kLeastChannels = 24;    // of a block, so that x is read in whole cache lines

Tiling choose_tiling(const Windows& a, std::int64_t channels, std::int64_t size) {
    Tiling tiling{};
    const auto bytes = [&](std::int64_t rows, std::int64_t columns) {
        return padded_tile_size(a, rows, columns, channels) * size;
    };
    tiling.columns = a.q;
    while (tiling.columns > 1 && (tiling.columns > kTilePixels || bytes(1, tiling.columns) > 2 * kTileBytes))
        tiling.columns = ceil_div(tiling.columns, 2);
    tiling.column_tiles = ceil_div(a.q, tiling.columns);
    tiling.rows = 1;
    while (tiling.rows < a.p && (tiling.rows + 1) * tiling.columns <= kTilePixels &&
           bytes(tiling.rows + 1, tiling.columns) <= kTileBytes)
        ++tiling.rows;
    tiling.row_tiles = ceil_div(a.p, tiling.rows);
    tiling.rows = ceil_div(a.p, tiling.row_tiles);
    tiling.row_tiles = ceil_div(a.p, tiling.rows);
    return tiling;
}

/// Sets the blocks and parts. The windows, vectors and blocks of filters must be set.
void choose_blocks(GradientCut& d, std::int64_t size) {
    const Windows& a = d.a;
    const std::int64_t total = d.total(), groups = d.o.groups;
    // With many channels, neighbouring pixels are far apart in memory: each is on its own page, and all fall into the
    // same sets of L1. Blocks of channels are then copied. This pays if there are at least two blocks of filters.
    const std::int64_t columns = std::min(a.q, kTilePixels);
    const std::int64_t rows = std::min(a.p, ceil_div(kTilePixels, columns));
    const std::int64_t fit = std::max(kLeastChannels, kBlockBytes / (padded_tile_size(a, rows, columns, 1) * size));
    d.c_blocks = d.k_blocks > 1 ? ceil_div(d.c, fit) : 1;
    while (d.c_blocks < d.c &&
           padded_tile_size(a, 1, std::min<std::int64_t>(a.q, 16), ceil_div(d.c, d.c_blocks)) * size > kTileBytes)
        ++d.c_blocks;
    d.copies = d.c_blocks > 1 || a.crosses_columns() || a.crosses_rows();
    // To get enough tasks, pixels are split first, as long as the partial sums fit. Then filters and channels are cut.
    // If the sums are too large for L2, filters are cut first, although each of their parts reads all of x.
    d.k_parts = 1;
    if (total * size > kLargeSumBytes) d.k_parts = std::min(d.k_blocks, ceil_div(kGradientTasks, groups * d.c_blocks));
    const std::int64_t splits_that_fit = std::clamp<std::int64_t>(kPartialBytes / (total * size), 1, kGradientTasks);
    const auto tasks_now = [&] { return splits_that_fit * groups * d.c_blocks * d.k_parts; };
    if (tasks_now() < kGradientTasks)
        d.k_parts = std::min(d.k_blocks, d.k_parts * ceil_div(kGradientTasks, tasks_now()));
    if (tasks_now() < kGradientTasks) d.c_blocks = std::min(d.c, d.c_blocks * ceil_div(kGradientTasks, tasks_now()));
    d.tiling = choose_tiling(a, ceil_div(d.c, d.c_blocks), size);
    d.tiles = d.images * d.tiling.tiles();
    const std::int64_t wanted = ceil_div(kGradientTasks, groups * d.c_blocks * d.k_parts);
    const std::int64_t pays = gradient_parts_that_pay(d.images * a.p * a.q, total);
    d.splits = std::clamp<std::int64_t>(std::min(d.tiles, pays), 1, std::min(splits_that_fit, wanted));
}

} // namespace

GradientTask GradientCut::task(std::int64_t at) const {
    const std::int64_t k_part = at % k_parts, cb = at / k_parts % c_blocks;
    GradientTask task{};
    task.group = at / k_parts / c_blocks % o.groups;
    task.split = at / k_parts / c_blocks / o.groups;
    task.kb0 = part_start(k_part, k_parts, k_blocks);
    task.kb1 = part_start(k_part + 1, k_parts, k_blocks);
    task.c0 = part_start(cb, c_blocks, c);
    task.channels = part_start(cb + 1, c_blocks, c) - task.c0;
    task.first_tile = part_start(task.split, splits, tiles);
    task.last_tile = part_start(task.split + 1, splits, tiles);
    return task;
}

std::int64_t GradientCut::pixels_before(std::int64_t at) const {
    const std::int64_t image = at / tiling.tiles(), tile = at % tiling.tiles();
    const std::int64_t y = tile / tiling.column_tiles * tiling.rows, rows = std::min(tiling.rows, a.p - y);
    return image * a.p * a.q + y * a.q + rows * (tile % tiling.column_tiles * tiling.columns);
}

TaskCost GradientCut::cost(const GradientTask& task) const {
    const std::int64_t sums = o.r * o.s * task.channels * filters(task);
    const double pixels = static_cast<double>(pixels_before(task.last_tile) - pixels_before(task.first_tile));
    TaskCost cost{pixels * static_cast<double>(sums), static_cast<double>(sums)};
    if (copies) {
        const double copied = static_cast<double>(padded_tile_size(a, tiling.rows, tiling.columns, task.channels));
        cost.moved_values += copied * pixels / static_cast<double>(tiling.rows * tiling.columns);
    }
    return cost;
}

template <class T>
GradientCut gradient_cut(const ConvProblem& o) {
    GradientCut d{};
    d.o = o;
    d.a = windows_of(o);
    d.images = o.n;
    d.c = o.c / o.groups;
    d.k = o.k / o.groups;
    d.sum_step = o.k;
    if (is_long_row(o)) {
        d.a.w = d.a.q = o.n * o.p * o.q;
        d.a.h = d.a.p = 1;
        d.images = std::min<std::int64_t>(o.n, 1);
    }
    d.width = kernels<T>().width;
    d.vectors = ceil_div(d.k, kernels<T>().width);
    d.k_blocks = ceil_div(d.vectors, kernels<T>().max_vectors);
    d.channel_lanes = channel_lanes_pay<T>(group_gradient(o));
    choose_blocks(d, static_cast<std::int64_t>(sizeof(T)));
    return d;
}

template GradientCut gradient_cut<float>(const ConvProblem&);
template GradientCut gradient_cut<double>(const ConvProblem&);

} // namespace fastconv
