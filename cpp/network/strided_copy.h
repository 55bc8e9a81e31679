// Copies tensors with arbitrary strides: slices, transposes, parts of concatenations.
#pragma once

#include "network/operation.h"

#include <array>

namespace fastconv::network {

/// The strides of a dense tensor, in elements.
Dims dense_steps(const Dims& dims);

class StridedCopy {
  public:
    /// `from` and `to` are the strides of the source and the destination, in elements. Those of `from` may be negative.
    StridedCopy(const Dims& dims, const Dims& from, const Dims& to, DataType dtype);

    /// Copies on all threads.
    void run(const void* from, void* to) const;

    /// Whether both tensors have the same order in memory, so that the copy is one run.
    bool is_one_run() const { return count_ == 0 || (count_ == 1 && axes_[0].from == 1 && axes_[0].to == 1); }

  private:
    struct Axis {
        std::int64_t size = 1;
        std::int64_t from = 1, to = 1;
    };
    struct Position {
        std::int64_t from = 0, to = 0;
    };

    template <class T>
    void copy_items(const T* from, T* to, std::int64_t first, std::int64_t last) const;
    template <class T>
    void copy_item(const T* from, T* to, std::int64_t piece) const;
    void choose_item();

    DataType dtype_;
    std::array<Axis, most_dimensions> axes_; // innermost first, without axes of size 1
    std::size_t count_ = 0;
    // An item is what one loop copies: a run of values along axis 0, or a matrix of axes 0 and 1 that is transposed.
    bool transposes_ = false;
    std::size_t item_axes_ = 1;
    std::int64_t piece_ = 1, pieces_ = 1; // the last axis of an item is cut into pieces
    std::int64_t items_ = 1, item_size_ = 1;
};

} // namespace fastconv::network
