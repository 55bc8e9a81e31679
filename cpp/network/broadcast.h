// The loops over two tensors that are broadcast to one shape, by NumPy's rule.
#pragma once

#include "core/chunks.h"
#include "network/operation.h"

#include <array>

namespace fastconv::network {

class Broadcast {
  public:
    /// Throws unless the shapes can be broadcast.
    Broadcast(const Dims& a, const Dims& b);

    const Dims& output() const { return output_; }

    /// Rows of the output y that are neighbours in memory. Offsets and strides are in elements. A stride is 0 where a
    /// tensor is broadcast.
    struct Part {
        std::int64_t a, b, y;                      // offsets of the part in each tensor
        std::int64_t a_row, b_row, a_step, b_step; // strides of rows, and of elements in a row
        std::int64_t rows, columns;
    };

    /// Calls body(part) for parts that make up the output, on all threads.
    template <class Body>
    void each_part(const Body& body) const {
        if (total_ == 0) return;
        const Axis &column = axes_[0], &row = axes_[1];
        const std::int64_t pieces = ceil_div(column.size, kChunk),
                           rows_at_once = std::max<std::int64_t>(1, kChunk / column.size);
        const std::int64_t blocks = ceil_div(row.size, rows_at_once), inner = pieces * blocks;
        const std::int64_t outer = total_ / (column.size * row.size);
        parallel_for(outer * inner, kElementCost * static_cast<double>(total_), [&](std::int64_t task) {
            const std::int64_t piece = task % pieces, block = task / pieces % blocks;
            const std::int64_t first_row = block * rows_at_once, first = piece * kChunk;
            Part part = outer_part(task / inner);
            part.a += first_row * row.a + first * column.a;
            part.b += first_row * row.b + first * column.b;
            part.y += first_row * column.size + first;
            part.rows = std::min(rows_at_once, row.size - first_row);
            part.columns = std::min(kChunk, column.size - first);
            body(part);
        });
    }

  private:
    struct Axis {
        std::int64_t size = 1, a = 0, b = 0; // a, b: the stride in each tensor, in elements
    };
    /// The part of the output that begins at this index of the outer axes.
    Part outer_part(std::int64_t index) const;

    Dims output_;
    std::int64_t total_ = 1;
    /// The innermost axis comes first. Neighbouring axes that both tensors store as one run are merged.
    std::array<Axis, most_dimensions + 1> axes_;
    std::size_t count_ = 0;
};

} // namespace fastconv::network
