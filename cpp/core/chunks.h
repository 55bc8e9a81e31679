// Cuts elementwise work into tasks.
#pragma once

#include "core/numbers.h"
#include "core/threads/parallel_for.h"

#include <algorithm>

namespace fastconv {

/// The number of elements in a task. This many elements of two operands and of the result stay in L1, so that an
/// activation finds the result there.
inline constexpr std::int64_t kChunk = 2048;
/// The cost of an element for parallel_for. It stands for the memory traffic, which takes longer than the arithmetic.
inline constexpr double kElementCost = 4;

/// Calls body(first, size) for each chunk of `count` elements, on all threads.
template <class Body>
void for_each_chunk(std::int64_t count, const Body& body) {
    parallel_for(ceil_div(count, kChunk), kElementCost * static_cast<double>(count), [&](std::int64_t task) {
        const std::int64_t first = task * kChunk;
        body(first, std::min(kChunk, count - first));
    });
}

/// Calls body(first row, rows) for blocks of rows, on all threads.
template <class Body>
void for_each_row_block(std::int64_t rows, std::int64_t columns, const Body& body) {
    if (rows == 0 || columns == 0) return;
    const std::int64_t at_once = std::max<std::int64_t>(1, kChunk / columns);
    parallel_for(ceil_div(rows, at_once), kElementCost * static_cast<double>(rows * columns),
                 [&](std::int64_t task) { body(task * at_once, std::min(at_once, rows - task * at_once)); });
}

} // namespace fastconv
