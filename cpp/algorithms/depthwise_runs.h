// Groups the windows of a depthwise convolution by the taps that lie inside the input, so that nothing is copied.
#pragma once

#include "algorithms/phases.h"
#include "algorithms/windows.h"
#include "core/threads/parallel_for.h"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace fastconv {

/// Neighbouring pixels of an output row with the same valid taps. All inner pixels form one run. A pixel at the border
/// is a run of its own.
struct Run {
    std::int64_t x0, pixels, j0, j1; // taps [j0, j1) of a window row
};

inline std::vector<Run> runs_of(const Windows& a) {
    std::vector<Run> runs;
    std::int64_t first = 0, last = 0;
    inner_columns(a, first, last);
    for (std::int64_t x = 0; x < a.q;) {
        if (x == first && last > first) {
            runs.push_back({x, last - first, 0, a.s});
            x = last;
            continue;
        }
        Run run{x, 1, 0, 0};
        valid_taps(a.base_w + x * a.stride_w, a.dilation_w, a.s, a.w, run.j0, run.j1);
        runs.push_back(run);
        ++x;
    }
    return runs;
}

/// The number of consecutive output rows, from y on and before `end`, that have the same valid taps as row y.
inline std::int64_t rows_alike(const Windows& a, std::int64_t y, std::int64_t end) {
    std::int64_t i0 = 0, i1 = 0, next0 = 0, next1 = 0, rows = 1;
    valid_taps(a.base_h + y * a.stride_h, a.dilation_h, a.r, a.h, i0, i1);
    for (; y + rows < end; ++rows) {
        valid_taps(a.base_h + (y + rows) * a.stride_h, a.dilation_h, a.r, a.h, next0, next1);
        if (next0 != i0 || next1 != i1) break;
    }
    return rows;
}

/// As many rows as leave all threads with about the same number. Neighbouring rows share most of what they read, and
/// the kernel slides from row to row. If rows are few, tasks are single rows: a thread that starts late then takes
/// fewer.
inline std::int64_t rows_of_task(std::int64_t images, std::int64_t rows_of_image, std::int64_t threads) {
    const std::int64_t all = images * rows_of_image, even = std::max<std::int64_t>(1, ceil_div(all, threads));
    constexpr std::int64_t most_rows = 18; // 4 tiles of 4 rows, and 2 border rows
    std::int64_t best = 1;
    double least = 0;
    if (all < 4 * threads) return best;
    for (std::int64_t rows = std::min({most_rows, rows_of_image, even}); rows >= 1; --rows) {
        const std::int64_t tasks = images * ceil_div(rows_of_image, rows);
        const auto longest = static_cast<double>(ceil_div(tasks, threads) * rows);
        if (least == 0 || longest < 0.95 * least) {
            best = rows;
            least = longest;
        }
    }
    return best;
}

/// The rows that tasks compute.
struct RowExtent {
    std::int64_t images, rows, channels, width; // width: the channels of a vector
};

/// Tasks that compute some rows of an image for a part of the channels.
struct RowTasks {
    RowTiles rows;
    // Where the parts of the channels start, and where the last one ends. A task computes one part. It does not divide,
    // because tiny calls consist of little else.
    std::vector<std::int64_t> starts;

    RowTasks() = default;
    RowTasks(const RowExtent& all, std::int64_t rows_of_task, std::int64_t parts_of_channels)
        : rows(all.images, all.rows, rows_of_task) {
        const ChannelParts channels{parts_of_channels, all.channels, all.width};
        for (std::int64_t part = 0; part <= parts_of_channels; ++part) starts.push_back(channels.first(part));
    }
    std::int64_t parts() const { return static_cast<std::int64_t>(starts.size()) - 1; }
    std::int64_t count() const { return rows.count() * parts(); }
    const std::int64_t* part(std::int64_t task) const { return starts.data() + (parts() == 1 ? 0 : task % parts()); }
    std::int64_t channels_of(std::int64_t task) const { return part(task)[1] - *part(task); }
    ImageRows rows_of(std::int64_t task) const { return rows.tile(parts() == 1 ? task : task / parts()); }
};

/// Chooses the rows of a task, at most `most_rows`, and, if threads are many, up to `most_parts` parts of the channels.
/// set(rows, parts) changes the decisions to a cut.
template <class Decisions, class Set>
void choose_row_cut(Decisions& decisions, std::int64_t threads, std::int64_t most_rows, std::int64_t most_parts,
                    Set&& set) {
    struct Cut {
        std::int64_t rows, parts;
    };
    std::vector<Cut> cuts;
    for (const std::int64_t parts : finer_parts(1, threads > kFewThreads ? most_parts : 1))
        for (const std::int64_t row_tiles : finer_parts(1, parts > 1 ? most_rows : 1))
            cuts.push_back({ceil_div(most_rows, row_tiles), parts});
    set_shortest(decisions, threads, cuts, [&](const Cut& cut) { set(cut.rows, cut.parts); });
}

/// Chooses decisions.cut: the rows of a task and, if threads are many, parts of the channels.
template <class Decisions>
void choose_row_tasks(Decisions& decisions, std::int64_t threads, const RowExtent& all) {
    choose_row_cut(decisions, threads, rows_of_task(all.images, all.rows, threads),
                   ceil_div(all.channels, 2 * all.width),
                   [&](std::int64_t rows, std::int64_t parts) { decisions.cut = {all, rows, parts}; });
}

} // namespace fastconv
