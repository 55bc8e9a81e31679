// Cuts the windows of a pooling into rectangles for the kernels.
#pragma once

#include "algorithms/windows.h"
#include "core/numbers.h"
#include "fastconv/pooling.h"
#include "kernels/table.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace fastconv {

template <class T>
using PoolKernel = void (*)(const PoolRow<T>&);

/// The taps of one window along one axis: those in [first, last) lie inside the input.
struct AxisTaps {
    std::int64_t start, first, last;
    std::int64_t counted; // the taps along this axis that a mean counts

    std::int64_t count() const { return last - first; }
};

/// The windows of a pooling along one axis.
struct PoolAxis {
    std::int64_t size, outputs, window, stride, dilation, before, after;
    bool adaptive, counts_padding;

    AxisTaps taps(std::int64_t i) const {
        AxisTaps result{};
        if (adaptive) { // make_pool_problem has checked that the products fit in 64 bits
            result.start = i * size / outputs;
            result.last = result.counted = ceil_div((i + 1) * size, outputs) - result.start;
            return result;
        }
        result.start = i * stride - before;
        if (dilation == 1) // the common case, without divisions
            valid_taps(result.start, 1, window, size, result.first, result.last);
        else
            valid_taps(result.start, dilation, window, size, result.first, result.last);
        result.counted = result.count();
        if (counts_padding) {
            std::int64_t first = 0, last = 0;
            valid_taps(result.start + before, dilation, window, before + size + after, first, last);
            result.counted = last - first;
        }
        return result;
    }
    bool has_all(const AxisTaps& taps) const { return !adaptive && taps.count() == window; }
    std::int64_t extent() const { return (window - 1) * dilation + 1; }
    /// Whether no two windows overlap. Windows that interleave their taps count as overlapping.
    bool disjoint() const { return !adaptive && stride >= extent(); }
    /// Whether no two windows overlap and every pixel up to the end of the last window is in a window.
    bool gapless() const { return disjoint() && dilation == 1 && stride == window; }
};

inline PoolAxis rows_of(const PoolProblem& o) {
    return {o.h, o.p, o.r, o.stride_h, o.dilation_h, o.pad_top, o.pad_bottom, o.adaptive, o.count_include_pad};
}
inline PoolAxis columns_of(const PoolProblem& o) {
    return {o.w, o.q, o.s, o.stride_w, o.dilation_w, o.pad_left, o.pad_right, o.adaptive, o.count_include_pad};
}

/// The output columns [first, last) whose windows have all taps inside the input. Adaptive windows differ in size, so
/// the function leaves `first` and `last` unchanged for them.
inline void inner_columns(const PoolProblem& o, std::int64_t& first, std::int64_t& last) {
    const Windows windows{o.h,        o.w,        o.p,          o.q,          o.r,        o.s,
                          o.stride_h, o.stride_w, o.dilation_h, o.dilation_w, -o.pad_top, -o.pad_left};
    if (!o.adaptive) inner_columns(windows, first, last);
}

/// Cuts output rows [y0, y1) into rectangles of windows with the same taps inside the input. Calls body(row, y, x) for
/// each rectangle, from top to bottom; (y, x) is its first window.
///
/// each_rectangle sets the taps, the steps and the size of `row`. Offsets count from the image's first value. Before it
/// runs a kernel, body points row.x (in a gradient also row.y) to this value and fills in the other members.
template <class T, class Body>
void each_rectangle(const PoolProblem& o, std::int64_t y0, std::int64_t y1, Body&& body) {
    if (o.q == 0) return; // without columns, the loop over rows would do nothing
    const PoolAxis vertical = rows_of(o), horizontal = columns_of(o);
    std::int64_t first = 0, last = 0; // the columns [first, last) have all taps
    inner_columns(o, first, last);
    std::vector<std::ptrdiff_t> offsets;
    offsets.reserve(static_cast<std::size_t>(std::min(o.r, o.h) * std::min(o.s, o.w))); // most taps inside the input
    for (std::int64_t y = y0, rows = 1; y < y1; y += rows) {
        const AxisTaps above = vertical.taps(y);
        rows = 1;
        if (vertical.has_all(above))
            rows = std::clamp<std::int64_t>((o.h - vertical.extent() - above.start) / o.stride_h + 1, 1, y1 - y);
        for (std::int64_t x = 0; x < o.q;) {
            const bool inner = x == first && last > first;
            const AxisTaps beside = horizontal.taps(x);
            offsets.clear();
            const std::int64_t step = o.dilation_w * o.c, taps = beside.count();
            for (std::int64_t i = above.first; i < above.last; ++i) {
                const std::int64_t line = (above.start + i * o.dilation_h) * o.w;
                std::int64_t at = (line + beside.start + beside.first * o.dilation_w) * o.c;
                for (std::int64_t j = 0; j < taps; ++j, at += step) offsets.push_back(at);
            }
            PoolRow<T> row{};
            row.x_row = o.stride_h * o.w * o.c;
            row.x_step = o.stride_w * o.c;
            row.offsets = offsets.data();
            row.taps = static_cast<std::int64_t>(offsets.size());
            row.counted = above.counted * beside.counted;
            row.rows = rows;
            row.pixels = inner ? last - first : 1;
            body(row, y, x);
            x += row.pixels;
        }
    }
}

} // namespace fastconv
