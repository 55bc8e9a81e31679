// What the forward pass and the filter gradient for few filters share: planar copies of the input, and how rows are
// cut.
#pragma once

#include "algorithms/windows.h"
#include "core/isa.h"
#include "core/numbers.h"

#include <algorithm>
#include <cstdint>
#include <numeric>

namespace fastconv {

constexpr std::int64_t kPlanarBytes = 128 << 10; // of a planar copy: stays in L2 with its output
constexpr std::int64_t kRegisterRows = 8;        // output rows of a register tile

/// Whole input rows in planar form, [channel][row][column], for some output rows.
struct Planar {
    std::int64_t lines, line, plane; // rows, values of a row with its padding, values of a channel

    Planar(const Windows& a, std::int64_t rows) : lines(rows + a.r - 1), line(a.q + a.s - 1), plane(lines * line) {}
    /// A vector beyond the end may be read.
    template <class T>
    std::int64_t size(std::int64_t channels) const {
        return channels * plane + kernels<T>().width;
    }
};

/// Fills `to` for output rows [y0, y0 + rows); `input`: the image, whose pixels are `pixel` elements apart.
template <class T>
void fill_planar(const Windows& a, std::int64_t y0, std::int64_t rows, const T* input, std::int64_t pixel,
                 std::int64_t channels, T* to);

/// How many vectors of a row start at different filters.
template <class T>
std::int64_t lane_patterns(std::int64_t filters) {
    return filters / std::gcd(filters, kernels<T>().width);
}

/// Whether the kernels can compute such windows.
template <class T>
bool spread_serves(const Windows& a, std::int64_t channels, std::int64_t filters);

/// In vectors multiplied per output pixel. A quarter of the steps goes to permutations and row ends, and each input
/// value is turned for half a step.
template <class T>
double spread_cost(const Windows& a, std::int64_t channels, std::int64_t filters) {
    return static_cast<double>(a.r * a.s * channels * filters * 5 / (4 * kernels<T>().width) + channels / 2);
}

/// Output rows that a planar copy serves: whole register tiles, as many as fit, and enough parts for all tasks.
template <class T>
std::int64_t choose_spread_rows(const Windows& a, std::int64_t channels, std::int64_t filters, std::int64_t images,
                                std::int64_t parts);

} // namespace fastconv
