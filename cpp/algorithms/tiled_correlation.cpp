#include "algorithms/tiled_correlation.h"

#include "algorithms/filter_blocks.h"

namespace fastconv {
namespace {

constexpr std::int64_t kTileBytes = 208 << 10; // the input of a tile: it stays in L2 with its output
static_assert(kMostCopyBytes == 8 * kTileBytes);
// A tile of this many pixels reuses a panel of filters often enough, and the output of the tile stays in L2, too.
constexpr std::int64_t kTilePixels = 96;
// With many threads, a tile has at least this many pixels, and a task this many filters.
constexpr std::int64_t kLeastPixels = 24, kLeastFilters = 16;
constexpr std::int64_t kMostTasks = 12;    // for each thread
constexpr double kLeastTileWork = 1 << 21; // multiplications of a tile; with fewer, starting the task costs too much

class Planner {
  public:
    Planner(const Correlation& g, const FilterPanels& panels, std::int64_t threads, std::int64_t size,
            bool may_go_tap_by_tap)
        : g_(g), panels_(panels), size_(size), threads_(threads), wanted_(threads > 1 ? 4 * threads : 1) {
        plan_.tap_by_tap = may_go_tap_by_tap && padding_costs();
    }

    std::vector<TilePlan> plans() {
        plan();
        std::vector<TilePlan> plans{plan_};
        if (threads_ > kFewThreads) add_smaller_tiles(plans);
        return plans;
    }

  private:
    void plan() {
        const Windows& a = g_.windows;
        plan_.k_blocks = panels_.k_blocks;
        // Copying costs little compared with the multiplications. In short rows, tiles of border pixels would cost
        // more.
        const bool copies = a.crosses_columns() && !plan_.tap_by_tap;
        plan_.copy_all = copies && a.q < 48;
        plan_.copy_borders = copies && !plan_.copy_all;
        set_group(std::clamp<std::int64_t>(kSumLength / (g_.window() * panels_.channels), 1, panels_.count));
        choose_columns();
        choose_rows();
        choose_group();
        choose_filter_parts();
    }

    /// Whether the image is so small that a notable part of the multiplications would meet padding to the left and
    /// right. (Rows of padding are skipped anyway.) A tap needs enough channels, because its sums are loaded and
    /// stored.
    bool padding_costs() const {
        constexpr std::int64_t least_channels = 64;
        const Windows& a = g_.windows;
        if (!a.crosses_columns() || a.p * a.q > kTilePixels || panels_.channels < least_channels) return false;
        std::int64_t valid = 0;
        for (std::int64_t j = 0; j < a.s; ++j) {
            std::int64_t first = 0, last = 0;
            valid_taps(a.base_w + j * a.dilation_w, a.stride_w, a.q, a.w, first, last);
            valid += last - first;
        }
        return 15 * valid <= 14 * a.q * a.s;
    }

    /// Adds plans with more tiles or more parts of the filters, but not with tiny tasks.
    void add_smaller_tiles(std::vector<TilePlan>& plans) {
        const Windows& a = g_.windows;
        const Tiling first = plan_.tiling;
        const std::int64_t least_columns = std::max<std::int64_t>(1, kLeastPixels / first.columns);
        const std::int64_t most_row_tiles = ceil_div(a.p, std::min(first.rows, least_columns));
        const std::int64_t most_column_tiles = ceil_div(a.q, std::min(first.columns, kLeastPixels));
        const bool long_row = a.p == 1 && !plan_.copy_all;
        for (const std::int64_t rows : finer_parts(first.row_tiles, long_row ? first.row_tiles : most_row_tiles)) {
            for (const std::int64_t columns : long_row ? column_parts(first.column_tiles, most_column_tiles)
                                                       : std::vector<std::int64_t>{first.column_tiles}) {
                if (columns > first.column_tiles) set_columns(columns);
                set_rows(ceil_div(a.p, rows));
                choose_group();
                for (const std::int64_t parts : finer_parts(fewest_parts(), most_parts(kLeastFilters))) {
                    plan_.tiling.k_parts = parts;
                    const std::int64_t count = plan_.tasks(g_).count;
                    if (count <= kMostTasks * threads_ && count > plans.front().tasks(g_).count) plans.push_back(plan_);
                }
            }
        }
        std::stable_sort(plans.begin(), plans.end(), [&](const TilePlan& one, const TilePlan& other) {
            return one.tasks(g_).count < other.tasks(g_).count;
        });
    }
    /// Numbers of tiles of a long row: those that give each thread as many, too.
    std::vector<std::int64_t> column_parts(std::int64_t first, std::int64_t last) const {
        std::vector<std::int64_t> parts = finer_parts(first, last);
        for (const std::int64_t tiles : finer_parts(threads_, std::min(last, 4 * threads_)))
            if (tiles > first && tiles <= last) parts.push_back(tiles);
        return parts;
    }
    void set_columns(std::int64_t tiles) {
        const std::int64_t q = g_.windows.q, unit = q >= 24 * tiles ? 12 : 6; // parts of register tiles
        plan_.tiling.columns = ceil_div(ceil_div(q, tiles), unit) * unit;
        plan_.tiling.column_tiles = ceil_div(q, plan_.tiling.columns);
    }
    void set_rows(std::int64_t rows) {
        const std::int64_t p = g_.windows.p;
        plan_.tiling.row_tiles = ceil_div(p, rows);
        plan_.tiling.rows = ceil_div(p, plan_.tiling.row_tiles);
        plan_.tiling.row_tiles = ceil_div(p, plan_.tiling.rows);
    }

    /// The bytes of the input of a tile that are used at a time. A double, because strides may be huge.
    double bytes(std::int64_t rows, std::int64_t columns) const {
        const Windows& a = g_.windows;
        double values = static_cast<double>(rows * columns * plan_.widest_channels);
        if (plan_.copy_all)
            values = static_cast<double>(padded_tile_size(a, rows, columns, plan_.widest_channels));
        else if (g_.window() > 1)
            values *= static_cast<double>(a.stride_h) * static_cast<double>(a.stride_w);
        return values * static_cast<double>(size_);
    }
    void set_group(std::int64_t panels) {
        plan_.group = panels;
        plan_.widest_channels = std::min(g_.c, panels * panels_.channels);
    }
    std::int64_t tasks(std::int64_t rows) const {
        return g_.n * g_.groups * plan_.tiling.column_tiles * ceil_div(g_.windows.p, rows);
    }

    /// The pixels of a tile of a long row.
    std::int64_t long_row_columns() const {
        const std::int64_t q = g_.windows.q;
        const double work = static_cast<double>(g_.window() * g_.c) * static_cast<double>(g_.k);
        const auto least = static_cast<std::int64_t>(std::min(kLeastTileWork / work, 1e6));
        // Prefers fewer pixels with all channels. Parts of more pixels would be far apart and share few sets of L2.
        const std::int64_t enough = std::clamp(kTileBytes / (g_.c * size_), kTilePixels / 2, kTilePixels);
        const std::int64_t pixels = std::max<std::int64_t>(enough, std::min(least, q / wanted_));
        std::int64_t tiles = std::max<std::int64_t>(1, (q + pixels / 2) / pixels);
        // If the filters give too few tasks for all threads, the pixels must give enough.
        while (q >= 48 * tiles && 2 * g_.n * g_.groups * tiles * most_parts() < wanted_) tiles *= 2;
        // Gives each thread the same number of tiles, if the tiles become only a little smaller.
        const std::int64_t even = ceil_div(tiles, threads_) * threads_;
        if (4 * even <= 5 * tiles) tiles = even;
        return tiles == 1 ? q : std::max<std::int64_t>(1, (q / tiles + 6) / 12) * 12; // whole register tiles
    }

    void choose_columns() {
        const Windows& a = g_.windows;
        Tiling& tiling = plan_.tiling;
        tiling.columns = a.p == 1 && !plan_.copy_all ? long_row_columns() : a.q;
        while (tiling.columns > 24 && bytes(1, tiling.columns) > kTileBytes)
            tiling.columns = ceil_div(tiling.columns, 2);
        while (tiling.columns > 1 && bytes(1, tiling.columns) > 8 * kTileBytes)
            tiling.columns = ceil_div(tiling.columns, 2);
        // A short rest is not worth a tile of its own.
        const std::int64_t rest = plan_.copy_all || plan_.copy_borders ? tiling.columns - 1 : tiling.columns / 2;
        tiling.column_tiles = std::max<std::int64_t>(1, (a.q + rest) / tiling.columns);
    }

    /// Makes enough tasks to give each thread an even share. But a task must not be so small that it reads filters
    /// from L2 for only a few pixels. If the filters have more values than the pixels, the filters are cut instead.
    void choose_rows() {
        const Windows& a = g_.windows;
        Tiling& tiling = plan_.tiling;
        const bool cut_filters = g_.window() * g_.k > a.p * a.q;
        const std::int64_t parts = cut_filters ? most_parts() : 1;
        tiling.rows = 1;
        const auto fits = [&](std::int64_t rows) {
            return bytes(rows, tiling.columns) <= kTileBytes &&
                   (tasks(rows) * parts >= wanted_ || tiling.rows * tiling.columns < 48);
        };
        while (tiling.rows < a.p && fits(std::min(a.p, 2 * tiling.rows))) tiling.rows = std::min(a.p, 2 * tiling.rows);
        // Each tile reads all filters, so that fewer tiles read fewer bytes.
        for (std::int64_t tiles = ceil_div(a.p, tiling.rows) - 1; cut_filters && tiles > 0; --tiles) {
            if (!fits(ceil_div(a.p, tiles))) break;
            tiling.rows = ceil_div(a.p, tiles);
        }
        set_rows(tiling.rows);
    }

    /// Takes panels into a group as long as their input fits, because each group writes the whole output again.
    void choose_group() {
        while (plan_.group < panels_.count) {
            const std::int64_t before = plan_.group;
            set_group(before + 1);
            if (bytes(plan_.tiling.rows, plan_.tiling.columns) <= kTileBytes) continue;
            return set_group(before);
        }
    }

    /// A task has at least this many filters, if the layer has that many, because it reads its pixels for all of them.
    std::int64_t most_parts(std::int64_t least_filters = 32) const {
        return std::clamp<std::int64_t>(panels_.k_blocks * panels_.filters / least_filters, 1, panels_.k_blocks);
    }
    /// The parts whose output stays in L2, if it is written several times.
    std::int64_t fewest_parts() const {
        const std::int64_t output = plan_.tiling.rows * plan_.tiling.columns * g_.k * size_;
        return std::min(most_parts(), plan_.group < panels_.count ? ceil_div(output, kTileBytes) : 1);
    }
    void choose_filter_parts() {
        Tiling& tiling = plan_.tiling;
        tiling.k_parts = std::clamp(ceil_div(wanted_, tasks(tiling.rows)), fewest_parts(), most_parts());
    }

    const Correlation& g_;
    const FilterPanels panels_;
    const std::int64_t size_, threads_, wanted_;
    TilePlan plan_{};
};

} // namespace

std::vector<TilePlan> tile_plans(const Correlation& g, const FilterPanels& panels, std::int64_t threads,
                                 std::int64_t size, bool may_go_tap_by_tap) {
    return Planner(g, panels, threads, size, may_go_tap_by_tap).plans();
}

TileTask TilePlan::task(const Correlation& g, std::int64_t at) const {
    const std::int64_t tiles = tiling.tiles(), k_part = at % tiling.k_parts;
    const std::int64_t image_group = at / tiling.k_parts / tiles;
    return {image_group / g.groups, image_group % g.groups, tiling.tile(at / tiling.k_parts % tiles, g.windows),
            part_start(k_part, tiling.k_parts, k_blocks), part_start(k_part + 1, tiling.k_parts, k_blocks)};
}

TaskCost TilePlan::cost(const Correlation& g, const TileTask& task, std::int64_t filters) const {
    const Windows& a = g.windows;
    const Tile& tile = task.tile;
    const auto copied = [&](std::int64_t columns) {
        return columns > 0 ? static_cast<double>(padded_tile_size(a, tile.rows, columns, g.c)) : 0.0;
    };
    TaskCost cost;
    cost.multiplications =
        static_cast<double>(tile.rows * tile.columns * g.window()) * static_cast<double>(g.c * filters);
    if (copy_all) cost.moved_values = copied(tile.columns);
    if (copy_borders) {
        std::int64_t first = 0, last = 0;
        inner_columns(a, first, last);
        const std::int64_t end = tile.x0 + tile.columns;
        cost.moved_values = copied(std::min(end, first) - tile.x0) + copied(end - std::max(tile.x0, last));
    }
    return cost;
}

std::int64_t TilePlan::thread_bytes(const Correlation& g, std::int64_t size) const {
    const bool copies = copy_all || copy_borders;
    const std::int64_t copy =
        copies ? padded_tile_size(g.windows, tiling.rows, tiling.columns, widest_channels) * size : 0;
    return std::min(copy, kMostCopyBytes) + g.window() * std::int64_t{sizeof(std::ptrdiff_t)};
}

} // namespace fastconv
