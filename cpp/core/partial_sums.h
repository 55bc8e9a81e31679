// The last step of every sum that is cut into parts: adding the parts.
#pragma once

#include "core/threads/parallel_for.h"

#include <algorithm>
#include <cstdint>

namespace fastconv {

/// How add_partials cuts `count` values with `parts` partial sums each. The values of a task stay in L1 while the parts
/// stream by. Long runs are read faster, short ones make enough tasks for many threads.
struct PartialTasks {
    std::int64_t parts, count, block = 4096;

    PartialTasks(std::int64_t parts, std::int64_t count) : parts(parts), count(count) {
        if (threads_for_tasks() > kFewThreads)
            block = std::clamp<std::int64_t>(8192 / (parts + 1) / 64 * 64, 256, 4096);
    }
    Tasks tasks() const {
        return parts > 0 ? moving_tasks((count + block - 1) / block, count * (parts + 1)) : Tasks{0, 0};
    }
    std::int64_t first(std::int64_t task) const { return std::min(count, task * block); }
    /// The values that a task reads and writes.
    double values(std::int64_t task) const {
        return static_cast<double>((parts + 1) * (first(task + 1) - first(task)));
    }
};

/// Adds `parts` arrays of `count` partial sums to `sums`, one after the other: sums[i] += partials[part * count + i].
///
/// The number of parts decides the order of the sum, so each algorithm derives it from the problem alone. The division
/// of values among threads changes no bit.
template <class T>
void add_partials(std::int64_t parts, std::int64_t count, const T* partials, T* sums) {
    if (parts <= 0) return;
    const PartialTasks cut(parts, count);
    parallel_for(cut.tasks(), [&](std::int64_t task) {
        const std::int64_t first = cut.first(task), last = cut.first(task + 1);
        for (std::int64_t part = 0; part < parts; ++part) {
            const T* const from = partials + part * count;
            for (std::int64_t i = first; i < last; ++i) sums[i] += from[i];
        }
    });
}

/// Writes the total of `parts` arrays of `count` partial sums to `sums`. Adds in double and on this thread, so it is
/// for few values.
template <class From, class To>
void sum_in_double(std::int64_t parts, std::int64_t count, const From* partials, To* sums) {
    for (std::int64_t i = 0; i < count; ++i) {
        double total = 0;
        for (std::int64_t part = 0; part < parts; ++part) total += static_cast<double>(partials[part * count + i]);
        sums[i] = static_cast<To>(total);
    }
}

} // namespace fastconv
