// Copies of some rows of a plane, with their padding. Shared by the algorithms that compute NCHW on its planes.
//
// If the stride is s, the columns of a copied row are sorted by their residue modulo s, so that vectors of output
// pixels read neighbours.
#pragma once

#include "algorithms/windows.h"
#include "core/isa.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace fastconv {

constexpr std::int64_t kMostStride = 4; // larger strides leave most of a copy unread
constexpr std::int64_t kMostReach = 64; // the most rows or columns of a dilated window

/// Whether copies are efficient, and no size overflows.
inline bool can_copy_planes(const Windows& a) {
    return a.r > 0 && a.s > 0 && a.r <= kMostReach && a.s <= kMostReach &&
           (a.r == 1 || a.dilation_h <= kMostReach / a.r) && (a.s == 1 || a.dilation_w <= kMostReach / a.s) &&
           std::max(a.stride_h, a.stride_w) <= kMostStride;
}

/// A copy of some input rows of `columns` output columns: [channel][line][residue of the column][column].
struct PlaneCopy {
    std::int64_t residues, length, line, lines, plane;

    PlaneCopy(const Windows& a, std::int64_t rows, std::int64_t columns)
        : residues(a.s > 1 ? a.stride_w : 1), length(columns + (a.s > 1 ? (a.s - 1) * a.dilation_w / a.stride_w : 0)),
          line(residues * length),
          lines(a.r > 0 && a.s > 0 ? (rows - 1) * a.stride_h + (a.r - 1) * a.dilation_h + 1 : 0), plane(lines * line) {}

    /// Where tap (i, j) of a window is.
    std::ptrdiff_t offset(const Windows& a, std::int64_t i, std::int64_t j) const {
        const std::int64_t column = j > 0 ? j * a.dilation_w : 0;
        return (i > 0 ? i * a.dilation_h * line : 0) + column % a.stride_w * length + column / a.stride_w;
    }
};

/// Copies values in steps of 16 bytes. It is inline, because rows are short.
template <class T>
inline void copy_run(const T* from, std::int64_t count, T* to) {
    constexpr auto step = static_cast<std::int64_t>(16 / sizeof(T));
    std::int64_t i = 0;
    for (; i + 4 * step <= count; i += 4 * step) std::memcpy(to + i, from + i, 64);
    for (; i + step <= count; i += step) std::memcpy(to + i, from + i, 16);
    for (; i < count; ++i) to[i] = from[i];
}

/// Prefetches values of a plane, of which every `step`-th is used, over `count` values. CPUs do not see a pattern in
/// short reads that go from plane to plane.
template <class T>
void prefetch_run(const T* from, std::int64_t count, std::int64_t step = 1) {
    constexpr auto line = static_cast<std::int64_t>(64 / sizeof(T));
    for (std::int64_t i = 0; i < count; i += std::max(line, step)) __builtin_prefetch(from + i);
}

/// The columns x, x + step, ... of a row of w columns that a copied line of `count` columns takes. Columns outside the
/// row are zero: those before `first`, and from `last` on.
struct CopiedColumns {
    std::int64_t x, step, count, first, last;

    CopiedColumns(std::int64_t x, std::int64_t step, std::int64_t count, std::int64_t w)
        : x(x), step(step), count(count), first(std::min(count, x >= 0 ? 0 : (-x + step - 1) / step)),
          last(std::max(first, std::min(count, x >= w ? 0 : (w - 1 - x) / step + 1))) {}

    template <class T>
    void copy(const T* row, T* to) const {
        for (std::int64_t i = 0; i < first; ++i) to[i] = T{};
        if (step == 1)
            copy_run(row + x + first, last - first, to + first);
        else
            for (std::int64_t i = first; i < last; ++i) to[i] = row[x + i * step];
        for (std::int64_t i = last; i < count; ++i) to[i] = T{};
    }
};

/// Copies two residues of columns at once.
template <class T>
void copy_pairs(const CopiedColumns& even, const CopiedColumns& odd, const T* row, T* to) {
    const std::int64_t count = even.count, first = std::max(even.first, odd.first);
    const std::int64_t last = std::max(first, std::min(even.last, odd.last));
    const auto border = [&](std::int64_t i) {
        to[i] = i >= even.first && i < even.last ? row[even.x + 2 * i] : T{};
        to[count + i] = i >= odd.first && i < odd.last ? row[odd.x + 2 * i] : T{};
    };
    for (std::int64_t i = 0; i < first; ++i) border(i);
    kernels<T>().transpose(row + even.x + 2 * first, 2, to + first, count, last - first, 2);
    for (std::int64_t i = last; i < count; ++i) border(i);
}

/// Copies the rows of one plane that a tile reads.
template <class T>
void copy_plane(const Windows& a, const Tile& tile, const PlaneCopy& copy, const T* plane, T* to) {
    const std::int64_t top = a.base_h + tile.y0 * a.stride_h, x = a.base_w + tile.x0 * a.stride_w;
    const std::int64_t step = a.r == 1 ? a.stride_h : 1; // no window reads the lines in between
    const std::int64_t first = std::clamp<std::int64_t>(-top, 0, copy.lines);
    const std::int64_t last = std::clamp<std::int64_t>(a.h - top, first, copy.lines);
    std::fill_n(to, first * copy.line, T{});
    std::fill_n(to + last * copy.line, (copy.lines - last) * copy.line, T{});
    const auto each_line = [&](auto&& copy_line) {
        for (std::int64_t i = ceil_div(first, step) * step; i < last; i += step)
            copy_line(plane + (top + i) * a.w, to + i * copy.line);
    };
    const auto columns = [&](std::int64_t residue) { return CopiedColumns(x + residue, a.stride_w, copy.length, a.w); };
    if (copy.residues == 2)
        return each_line(
            [&, even = columns(0), odd = columns(1)](const T* from, T* line) { copy_pairs(even, odd, from, line); });
    for (std::int64_t residue = 0; residue < copy.residues; ++residue)
        each_line(
            [&, taken = columns(residue)](const T* from, T* line) { taken.copy(from, line + residue * copy.length); });
}

} // namespace fastconv
