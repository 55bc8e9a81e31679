// Cuts the windows of a pooling into rectangles for the kernels.
#pragma once

#include "algorithms/windows.h"
#include "fastconv/pooling.h"
#include "kernels/table.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace fastconv {

template <class T>
using PoolKernel = void (*)(const PoolRow<T>&);

inline Windows windows_of(const PoolProblem& o) {
    return {o.h, o.w, o.p, o.q, o.r, o.s, o.stride_h, o.stride_w, 1, 1, -o.pad_top, -o.pad_left};
}

/// Cuts output rows [y0, y1) into rectangles of windows with the same taps inside the input. Calls body(row, y, x) for
/// each rectangle, from top to bottom; (y, x) is its first window.
///
/// each_rectangle sets the taps, the steps and the size of `row`, with offsets from the first value of the image.
/// Before it runs a kernel, body sets row.x (in a gradient also row.y) to that value, and fills in the other members.
template <class T, class Body>
void each_rectangle(const PoolProblem& o, std::int64_t y0, std::int64_t y1, Body&& body) {
    const Windows a = windows_of(o);
    if (a.q == 0) return;             // otherwise the loop over rows would run for nothing
    std::int64_t first = 0, last = 0; // of the columns with all taps
    inner_columns(a, first, last);
    std::vector<std::ptrdiff_t> offsets;
    offsets.reserve(static_cast<std::size_t>(std::min(a.r, a.h) * std::min(a.s, a.w))); // most taps inside
    for (std::int64_t y = y0, rows = 1; y < y1; y += rows) {
        std::int64_t i0 = 0, i1 = 0;
        const std::int64_t top = a.base_h + y * a.stride_h;
        valid_taps(top, 1, a.r, a.h, i0, i1);
        const bool whole = i0 == 0 && i1 == a.r;
        rows = whole ? std::clamp<std::int64_t>((a.h - a.r - top) / a.stride_h + 1, 1, y1 - y) : 1;
        for (std::int64_t x = 0; x < a.q;) {
            const bool inner = x == first && last > first;
            const std::int64_t left = a.base_w + x * a.stride_w;
            std::int64_t j0 = 0, j1 = 0;
            valid_taps(left, 1, a.s, a.w, j0, j1);
            offsets.clear();
            for (std::int64_t i = i0; i < i1; ++i)
                for (std::int64_t j = j0; j < j1; ++j) offsets.push_back(((top + i) * a.w + left + j) * o.c);
            PoolRow<T> row{};
            row.x_row = a.stride_h * a.w * o.c;
            row.x_step = a.stride_w * o.c;
            row.offsets = offsets.data();
            row.taps = static_cast<std::int64_t>(offsets.size());
            row.rows = rows;
            row.pixels = inner ? last - first : 1;
            body(row, y, x);
            x += row.pixels;
        }
    }
}

} // namespace fastconv
