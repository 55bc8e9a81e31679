// Shared by small_k_spread and its filter gradient: planar copies of the input, and how output rows are cut.
#pragma once

#include "algorithms/windows.h"
#include "core/isa.h"
#include "core/numbers.h"

#include <algorithm>
#include <cstdint>
#include <numeric>

namespace fastconv {

constexpr std::int64_t kPlanarBytes = 128 << 10; // the most bytes of a planar copy, which stays in L2 with its output
constexpr std::int64_t kRegisterRows = 8;        // output rows of a register tile

/// The shape of a planar copy, [channel][row][column], of the whole input rows that some output rows read.
struct Planar {
    std::int64_t lines, line, plane; // lines: rows; line: values of a row with its padding; plane: values of a channel

    Planar(const Windows& a, std::int64_t rows) : lines(rows + a.r - 1), line(a.q + a.s - 1), plane(lines * line) {}
    /// Has room for one more vector than the values need, because the kernels may read beyond the end.
    template <class T>
    std::int64_t size(std::int64_t channels) const {
        return channels * plane + kernels<T>().width;
    }
};

/// Fills `to` for output rows [y0, y0 + rows). `input` is the image. Its pixels are `pixel` elements apart.
template <class T>
void fill_planar(const Windows& a, std::int64_t y0, std::int64_t rows, const T* input, std::int64_t pixel,
                 std::int64_t channels, T* to);

/// The number of lane patterns. Lane i of a row holds filter i % filters, so vectors start at different filters. The
/// patterns repeat after this many vectors.
template <class T>
std::int64_t lane_patterns(std::int64_t filters) {
    return filters / std::gcd(filters, kernels<T>().width);
}

/// Whether the kernels can compute these windows.
template <class T>
bool spread_serves(const Windows& a, std::int64_t channels, std::int64_t filters);

/// The cost in vectors multiplied per output pixel. Permutations and row ends add a quarter. The planar copy of an
/// input value costs half a step.
template <class T>
double spread_cost(const Windows& a, std::int64_t channels, std::int64_t filters) {
    return static_cast<double>(a.r * a.s * channels * filters * 5 / (4 * kernels<T>().width) + channels / 2);
}

/// The output rows of a planar copy: as many whole register tiles as fit, but few enough to leave `parts` parts.
template <class T>
std::int64_t choose_spread_rows(const Windows& a, std::int64_t channels, std::int64_t filters, std::int64_t images,
                                std::int64_t parts);

} // namespace fastconv
