// Cuts a correlation into tiles of output pixels and runs a task for each. Shared by direct and small_k_reduce.
#pragma once

#include "algorithms/algorithm.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace fastconv {

/// How the output is cut into tasks: tiles of rows x columns, and parts of the filter blocks. The last column of tiles
/// has the remaining pixels, which may be more or fewer than `columns`.
struct Tiling {
    std::int64_t rows, columns, row_tiles, column_tiles, k_parts;

    std::int64_t tiles() const { return row_tiles * column_tiles; }
    Tile tile(std::int64_t at, const Windows& a) const {
        const std::int64_t y0 = at / column_tiles * rows, x0 = at % column_tiles * columns;
        const bool last = (at + 1) % column_tiles == 0;
        return {y0, std::min(rows, a.p - y0), x0, last ? a.q - x0 : columns};
    }
};

/// One task: a tile of one group of one image, with filter blocks [first_block, last_block).
struct TileTask {
    std::int64_t image, group;
    Tile tile;
    std::int64_t first_block, last_block;
};

struct TilePlan {
    Tiling tiling;
    // Whether all tiles read padded copies of the input, or only the tiles at the left and right.
    bool copy_all, copy_borders;
    // Whether the caller adds one tap after the other, to those pixels where it is inside the input. Nothing is copied.
    bool tap_by_tap;
    std::int64_t k_blocks;               // blocks of filters
    std::int64_t group, widest_channels; // panels whose input is used at a time; the most channels of such a group

    Tasks tasks(const Correlation& g) const {
        return {g.n * g.groups * tiling.tiles() * tiling.k_parts, 2.0 * g.multiplications()};
    }
    TileTask task(const Correlation& g, std::int64_t at) const;
    /// The cost of a task that computes `filters` filters.
    TaskCost cost(const Correlation& g, const TileTask& task, std::int64_t filters) const;
    /// The scratch memory of a task.
    std::int64_t thread_bytes(const Correlation& g, std::int64_t size) const;
};

/// The panels of packed filters: `count` blocks of at most `channels` channels, times k_blocks blocks of at most
/// `filters` filters.
struct FilterPanels {
    std::int64_t count, channels, k_blocks, filters;
};

/// The tile plans that may be taken for this number of threads, the one with the largest tiles first. See TilePlan for
/// `may_go_tap_by_tap`.
std::vector<TilePlan> tile_plans(const Correlation& g, const FilterPanels& panels, std::int64_t threads,
                                 std::int64_t size, bool may_go_tap_by_tap);

/// The most bytes of a copied tile.
constexpr std::int64_t kMostCopyBytes = 8 * (208 << 10);

/// Where a tile reads its windows: in place, or in a copy with its padding.
template <class T>
struct TileSource {
    const T* x;
    PaddedTileLayout layout;

    /// `input` is the image's first channel to read. Neighbouring pixels are `pixel` elements apart. `copy` is the
    /// filled copy, or null.
    TileSource(const Windows& a, std::int64_t pixel, const T* input, const Tile& tile, std::int64_t channels,
               const T* copy) {
        if (copy != nullptr) {
            layout = padded_tile_layout(a, tile.columns, channels);
            x = copy;
        } else {
            const std::int64_t line = a.w * pixel;
            layout = {a.stride_h * line, a.stride_w * pixel, a.dilation_h * line, a.dilation_w * pixel};
            x = input + (a.base_h + tile.y0 * a.stride_h) * line + (a.base_w + tile.x0 * a.stride_w) * pixel;
        }
    }
};

/// Writes the offsets of a window's contiguous runs: whole rows or single taps. Returns the number of runs per row.
inline std::int64_t window_segments(const Windows& a, const PaddedTileLayout& layout, bool whole_rows,
                                    std::ptrdiff_t* segments) {
    const std::int64_t per_row = whole_rows ? 1 : a.s;
    for (std::int64_t i = 0; i < a.r; ++i)
        for (std::int64_t j = 0; j < per_row; ++j)
            segments[i * per_row + j] = i * layout.window_row + j * layout.window_column;
    return per_row;
}

/// Calls body(task, copy, segments) in parallel for all tiles, or for the tiles in `only`. `copy` is memory for a copy
/// of the tile's input, or null if the input is read in place. `segments` has room for the offsets of a window.
template <class T, class Body>
void for_each_tile(const Correlation& g, const TilePlan& plan, const std::vector<ImageTile>* only, Body body) {
    const Windows& a = g.windows;
    const auto compute = [&](const TileTask& task) {
        const Scratch<std::ptrdiff_t> segments(g.window());
        const auto part = [&](std::int64_t x0, std::int64_t x1, bool copied) {
            TileTask columns = task;
            Tile& tile = columns.tile;
            tile.x0 = std::max(x0, task.tile.x0);
            const std::int64_t end = std::min(x1, task.tile.x0 + task.tile.columns);
            const auto size = [&] { return padded_tile_size(a, tile.rows, tile.columns, plan.widest_channels); };
            while (tile.x0 < end) {
                tile.columns = end - tile.x0;
                while (copied && tile.columns > 1 && size() * std::int64_t{sizeof(T)} > kMostCopyBytes)
                    tile.columns = ceil_div(tile.columns, 2);
                const Scratch<T> copy(copied ? size() : 0);
                body(columns, copied ? copy.get() : nullptr, segments.get());
                tile.x0 += tile.columns;
            }
        };
        if (!plan.copy_borders) return part(0, a.q, plan.copy_all);
        std::int64_t first = 0, last = 0;
        inner_columns(a, first, last);
        part(0, first, true);
        part(first, last, false);
        part(last, a.q, true);
    };
    if (only != nullptr) {
        const auto count = static_cast<std::int64_t>(only->size());
        parallel_for(count * g.groups, g.pixel_work() * static_cast<double>(16 * count), [&](std::int64_t task) {
            const ImageTile& at = (*only)[static_cast<std::size_t>(task / g.groups)];
            compute({at.image, task % g.groups, at.tile, 0, plan.k_blocks});
        });
        return;
    }
    parallel_for(plan.tasks(g), [&](std::int64_t task) { compute(plan.task(g, task)); });
}

} // namespace fastconv
