// The part of the epilogue that kernels do not apply in registers: activations that are no bounds, and, except in the
// direct algorithm, a residual and the bounds after it. A task applies this part to the values that it has just stored,
// while they are still in its caches.
#pragma once

#include "algorithms/correlation.h"
#include "core/threads/parallel_for.h"

#include <cstdint>

namespace fastconv {

template <class T>
void finish_stored_tile(const Correlation& g, const Operands<T>& operands, std::int64_t image, std::int64_t group,
                        const Tile& tile, std::int64_t k0, std::int64_t channels);

/// Finishes filters [k0, k0 + channels) of a group in a tile of the output. Call it when the sums are complete.
template <class T>
void finish_tile(const Correlation& g, const Operands<T>& operands, std::int64_t image, std::int64_t group,
                 const Tile& tile, std::int64_t k0, std::int64_t channels) {
    if (g.finish && operands.finishes()) finish_stored_tile(g, operands, image, group, tile, k0, channels);
}

template <class T>
void finish_stored_planes(const Operands<T>& operands, std::int64_t start, std::int64_t planes, std::int64_t plane,
                          std::int64_t rows, std::int64_t row, std::int64_t columns);

/// Finishes rows x columns pixels of some planes of an NCHW output, from value `start` on. Planes are `plane` values
/// apart, and their rows are `row` values apart.
template <class T>
void finish_planes(const Operands<T>& operands, std::int64_t start, std::int64_t planes, std::int64_t plane,
                   std::int64_t rows, std::int64_t row, std::int64_t columns) {
    if (operands.finishes()) finish_stored_planes(operands, start, planes, plane, rows, row, columns);
}

/// Finishes `count` contiguous values of the output from `start` on, with all threads.
template <class T>
void finish_values(const Operands<T>& operands, std::int64_t start, std::int64_t count);

/// The tasks of write_empty_sums, and the values that each of them writes.
Tasks empty_sum_tasks(const Correlation& g);
double empty_sum_values(const Correlation& g);
/// Writes the output of a correlation whose window is empty: the epilogue applied to sums that are 0.
template <class T>
void write_empty_sums(const Correlation& g, const Operands<T>& operands);

} // namespace fastconv
