// Groups the windows of a depthwise convolution by the taps that lie inside the input, so that nothing is copied.
#pragma once

#include "algorithms/windows.h"

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

} // namespace fastconv
