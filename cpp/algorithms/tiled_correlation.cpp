#include "algorithms/tiled_correlation.h"

#include "algorithms/filter_blocks.h"

namespace fastconv {
namespace {

constexpr std::int64_t kTileBytes = 208 << 10; // the input of a tile: it stays in L2 with its output
static_assert(kMostCopyBytes == 8 * kTileBytes);
// A tile of this many pixels reuses a panel of filters often enough, and the output of the tile stays in L2, too.
constexpr std::int64_t kTilePixels = 96;
constexpr double kLeastTileWork = 1 << 21; // multiplications of a tile; with fewer, starting the task costs too much

class Planner {
  public:
    Planner(const Correlation& g, const FilterPanels& panels, std::int64_t threads, std::int64_t size)
        : g_(g), panels_(panels), size_(size), threads_(threads), wanted_(threads > 1 ? 4 * threads : 1) {}

    TilePlan plan() {
        const Windows& a = g_.windows;
        plan_.k_blocks = panels_.k_blocks;
        // Copying costs little compared with the multiplications. In short rows, tiles of border pixels would cost
        // more.
        plan_.copy_all = a.crosses_columns() && a.q < 48;
        plan_.copy_borders = a.crosses_columns() && !plan_.copy_all;
        set_group(std::clamp<std::int64_t>(kSumLength / (g_.window() * panels_.channels), 1, panels_.count));
        choose_columns();
        choose_rows();
        choose_group();
        choose_filter_parts();
        return plan_;
    }

  private:
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
        while (tiling.rows < a.p && bytes(2 * tiling.rows, tiling.columns) <= kTileBytes &&
               (tasks(2 * tiling.rows) * parts >= wanted_ || tiling.rows * tiling.columns < 48))
            tiling.rows = std::min(a.p, 2 * tiling.rows);
        tiling.row_tiles = ceil_div(a.p, tiling.rows);
        tiling.rows = ceil_div(a.p, tiling.row_tiles);
        tiling.row_tiles = ceil_div(a.p, tiling.rows);
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

    /// A task has at least 32 filters, if the layer has that many, because the task reads its pixels for all of them.
    std::int64_t most_parts() const {
        return std::clamp<std::int64_t>(panels_.k_blocks * panels_.filters / 32, 1, panels_.k_blocks);
    }
    void choose_filter_parts() {
        Tiling& tiling = plan_.tiling;
        const std::int64_t output = tiling.rows * tiling.columns * g_.k * size_;
        const std::int64_t fitting = plan_.group < panels_.count ? ceil_div(output, kTileBytes) : 1;
        tiling.k_parts =
            std::clamp<std::int64_t>(std::max(ceil_div(wanted_, tasks(tiling.rows)), fitting), 1, most_parts());
    }

    const Correlation& g_;
    const FilterPanels panels_;
    const std::int64_t size_, threads_, wanted_;
    TilePlan plan_{};
};

} // namespace

TilePlan plan_tiles(const Correlation& g, const FilterPanels& panels, std::int64_t threads, std::int64_t size) {
    return Planner(g, panels, threads, size).plan();
}

std::int64_t TilePlan::thread_bytes(const Correlation& g, std::int64_t size) const {
    const bool copies = copy_all || copy_borders;
    const std::int64_t copy =
        copies ? padded_tile_size(g.windows, tiling.rows, tiling.columns, widest_channels) * size : 0;
    return std::min(copy, kMostCopyBytes) + g.window() * std::int64_t{sizeof(std::ptrdiff_t)};
}

} // namespace fastconv
