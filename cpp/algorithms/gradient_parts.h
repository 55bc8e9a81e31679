// How many parts a filter gradient is cut into. It decides the order of the sum, so it follows from the problem alone.
#pragma once

#include <algorithm>
#include <cstdint>

namespace fastconv {

/// Into how many parts with sums of their own, for `values` filter values each, the gradient over so many pixels pays
/// to be cut: clearing and adding the sums costs as much as some 100 pixels, a task as much as 100,000 multiplications.
inline std::int64_t gradient_parts_that_pay(std::int64_t pixels, std::int64_t values) {
    const double work = static_cast<double>(pixels) * static_cast<double>(values);
    const double least = 131072.0 + 256.0 * static_cast<double>(values);
    return static_cast<std::int64_t>(std::clamp(work / least, 1.0, 1e6));
}

} // namespace fastconv
