// The last step of every sum that is cut into parts: adding the parts.
#pragma once

#include "core/threads/parallel_for.h"

#include <algorithm>
#include <cstdint>

namespace fastconv {

/// Adds `parts` arrays of `count` partial sums to `sums`, one after the other: sums[i] += partials[part * count + i].
///
/// The number of parts decides the order of the sum, so each algorithm derives it from the problem alone. The division
/// of values among threads changes no bit.
template <class T>
void add_partials(std::int64_t parts, std::int64_t count, const T* partials, T* sums) {
    constexpr std::int64_t block = 4096; // values of a task; their sums stay in L1 while the parts stream by
    if (parts <= 0) return;
    parallel_for((count + block - 1) / block, static_cast<double>(count * (parts + 1)), [&](std::int64_t task) {
        const std::int64_t first = task * block, last = std::min(count, first + block);
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
