// The last step of every sum that is cut into parts: adding the parts.
#pragma once

#include "core/threads/parallel_for.h"

#include <algorithm>
#include <cstdint>

namespace fastconv {

constexpr std::int64_t kPartialsOfTask = 4096; // values of a task, which stay in L1 while the parts stream by

/// The tasks that add `parts` partial sums of `count` values.
inline Tasks partial_tasks(std::int64_t parts, std::int64_t count) {
    if (parts <= 0) return {0, 0};
    return {(count + kPartialsOfTask - 1) / kPartialsOfTask, static_cast<double>(count * (parts + 1))};
}
/// The values that a task of partial_tasks reads and writes.
inline double partial_values(std::int64_t parts, std::int64_t count, std::int64_t task) {
    return static_cast<double>((parts + 1) * std::min(kPartialsOfTask, count - task * kPartialsOfTask));
}

/// sums[i] += partials[i] + partials[count + i] + ..., `parts` of them, one after the other, for `count` values.
///
/// The number of parts decides the order of the sum, so each algorithm derives it from the problem alone. The division
/// of values among threads changes no bit.
template <class T>
void add_partials(std::int64_t parts, std::int64_t count, const T* partials, T* sums) {
    if (parts <= 0) return;
    parallel_for(partial_tasks(parts, count), [&](std::int64_t task) {
        const std::int64_t first = task * kPartialsOfTask, last = std::min(count, first + kPartialsOfTask);
        for (std::int64_t part = 0; part < parts; ++part) {
            const T* const from = partials + part * count;
            for (std::int64_t i = first; i < last; ++i) sums[i] += from[i];
        }
    });
}

/// sums[i] = partials[i] + partials[count + i] + ..., `parts` of them, added in double on this thread. For few values.
template <class From, class To>
void sum_in_double(std::int64_t parts, std::int64_t count, const From* partials, To* sums) {
    for (std::int64_t i = 0; i < count; ++i) {
        double total = 0;
        for (std::int64_t part = 0; part < parts; ++part) total += static_cast<double>(partials[part * count + i]);
        sums[i] = static_cast<To>(total);
    }
}

} // namespace fastconv
