// The number of parts of a filter gradient. It decides the order of the sum, so it follows from the problem alone.
#pragma once

#include <algorithm>
#include <cstdint>

namespace fastconv {

/// The number of parts that pays for a gradient of `values` filter values over `pixels` pixels. Each part is a task
/// with its own sums. Clearing and adding the sums costs as much as about 100 pixels, and starting the task as much as
/// about 100,000 multiplications. The work of a part must be greater than this cost.
inline std::int64_t gradient_parts_that_pay(std::int64_t pixels, std::int64_t values) {
    const double work = static_cast<double>(pixels) * static_cast<double>(values);
    const double least = 131072.0 + 256.0 * static_cast<double>(values);
    return static_cast<std::int64_t>(std::clamp(work / least, 1.0, 1e6));
}

} // namespace fastconv
