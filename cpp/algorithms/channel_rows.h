// A tensor as rows of columns, each of which belongs to one channel, for the kernels of batch normalisation.
//
// In NHWC, a row is a pixel. If channels are few, it is several pixels, so that it fills vectors. In NCHW, a task sees
// some channels of all images. If planes are small, a row is the planes of neighbouring channels in one image. Else the
// task has one channel, and a row is a piece of a plane. What does not fill a row at the end of a plane is the `rest`.
// The numbers of channels are repeated, one for each column.
#pragma once

#include "core/numbers.h"
#include "core/threads/parallel_for.h"
#include "fastconv/batch_norm.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

namespace fastconv {

struct ChannelRows {
    std::int64_t planes = 1, plane_step = 0; // blocks of rows, and their distance
    std::int64_t channels, columns;
    std::int64_t rows, row, rest; // of a plane; row: the distance of two rows
    std::int64_t repeats = 1;     // so many columns next to each other belong to one channel
    std::int64_t tensor_size;     // of the whole tensor

    std::int64_t plane() const { return rows * columns + rest; }
    std::int64_t size() const { return planes * plane(); }
    /// Columns of one channel next to each other are a run. Their sums are added before anything else.
    std::int64_t runs() const { return columns / repeats; }
    /// Stores a channel's value for each of its runs.
    template <class T>
    void repeat_runs(std::int64_t channel, T value, T* numbers) const {
        for (std::int64_t i = channel; i < runs(); i += channels) numbers[i] = value;
    }
    /// Stores a channel's value for each of its columns.
    template <class T>
    void repeat(std::int64_t channel, T value, T* numbers) const {
        for (std::int64_t i = channel; i < runs(); i += channels) std::fill_n(numbers + i * repeats, repeats, value);
    }
};

/// The sum of a run's columns, in double.
template <class T>
double sum_of_run(const T* sums, std::int64_t count) {
    double partial[4] = {}; // so that additions do not wait for each other
    std::int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
        for (std::int64_t j = 0; j < 4; ++j) partial[j] += static_cast<double>(sums[i + j]);
    }
    for (; i < count; ++i) partial[0] += static_cast<double>(sums[i]);
    return (partial[0] + partial[1]) + (partial[2] + partial[3]);
}

/// Calls use(run, total) for some runs. total(sums) adds the sums of the run's columns.
template <class Use>
void each_run(const ChannelRows& all, std::int64_t first, std::int64_t last, const Use& use) {
    if (all.repeats == 1) {
        for (std::int64_t i = first; i < last; ++i)
            use(i, [i](const auto* sums) { return static_cast<double>(sums[i]); });
    } else {
        for (std::int64_t i = first; i < last; ++i)
            use(i, [&](const auto* sums) { return sum_of_run(sums + i * all.repeats, all.repeats); });
    }
}

/// The channels of a tensor in groups, a task each. In NHWC, one group has all channels. No bit depends on how channels
/// are grouped, so this may follow from the number of threads.
class ChannelGroups {
  public:
    /// `width` is the number of elements of a vector.
    ChannelGroups(const BatchNormProblem& problem, std::int64_t width);

    std::int64_t count() const { return ceil_div(problem_.channels, of_group_); }
    /// A rough number of operations of one pass.
    double cost() const { return 4 * static_cast<double>(problem_.channels * problem_.count()); }
    std::int64_t first_channel(std::int64_t group) const { return group * of_group_; }
    std::int64_t first_value(std::int64_t group) const { return first_channel(group) * problem_.plane; }
    /// The problem with the group's channels alone.
    BatchNormProblem problem(std::int64_t group) const;
    ChannelRows rows(std::int64_t group) const;

  private:
    BatchNormProblem problem_;
    std::int64_t width_, of_group_;
    bool small_planes_; // in NCHW
};

/// For each group, calls first() and then second() of the object that make(group) returns as std::unique_ptr. If the
/// groups fill the threads, a task does both, so that the group's values are in its caches. Else the second calls run
/// one after the other, each on all threads.
template <class Make>
void run_passes(const ChannelGroups& groups, const Make& make) {
    const std::int64_t count = groups.count();
    if (count > 1 && count >= threads_for_tasks()) {
        parallel_for(count, 2 * groups.cost(), [&](std::int64_t group) {
            const auto passes = make(group);
            passes->first();
            passes->second();
        });
        return;
    }
    std::vector<decltype(make(0))> passes;
    for (std::int64_t group = 0; group < count; ++group) passes.push_back(make(group));
    if (count == 1)
        passes[0]->first();
    else
        parallel_for(count, groups.cost(),
                     [&](std::int64_t group) { passes[static_cast<std::size_t>(group)]->first(); });
    for (const auto& some : passes) some->second();
}

/// The parts of a sum over all rows, one task each, which follow from the problem alone. In NHWC, a part is some of the
/// rows. In NCHW, it is all of them.
struct RowParts {
    static constexpr std::int64_t chunk = 256;

    explicit RowParts(const ChannelRows& all);

    ChannelRows all;
    std::int64_t parts;

    /// Calls add(offset of the first value, rows, columns) for the rows of a part, and flush() after each `chunk` rows
    /// and at the end. A rest counts as a row.
    template <class Add, class Flush>
    void each_chunk(std::int64_t part, const Add& add, const Flush& flush) const {
        std::int64_t left = chunk;
        const auto add_some = [&](std::int64_t at, std::int64_t count, std::int64_t columns) {
            add(at, count, columns);
            left -= count;
            if (left > 0) return;
            flush();
            left = chunk;
        };
        const std::int64_t first = part_start(part, parts, all.rows), last = part_start(part + 1, parts, all.rows);
        for (std::int64_t i = 0; i < all.planes; ++i) {
            const std::int64_t start = i * all.plane_step;
            for (std::int64_t row = first; row < last;) {
                const std::int64_t some = std::min(left, last - row);
                add_some(start + row * all.row, some, all.columns);
                row += some;
            }
            if (all.rest > 0 && part + 1 == parts) add_some(start + all.rows * all.row, 1, all.rest);
        }
        flush();
    }

    /// The sums of channel c are sums_of_channel() sums of runs, at c + i*channels among those of all parts.
    std::int64_t sums_of_channel() const { return parts * all.runs() / all.channels; }
};

/// The values of a task, if they are independent of each other.
constexpr std::int64_t kTaskValues = 16384;

/// Calls body(offset of the first value, rows, columns) for blocks of rows that make up the tensor, on all threads. The
/// last blocks come first: the pass before this one has left them in the caches.
template <class Body>
void each_row_block(const ChannelRows& all, double cost, const Body& body) {
    const std::int64_t at_once = std::max<std::int64_t>(1, kTaskValues / all.columns);
    const std::int64_t blocks = std::max<std::int64_t>(1, ceil_div(all.rows, at_once)); // of a plane
    const std::int64_t tasks = all.size() == 0 ? 0 : all.planes * blocks;
    parallel_for(tasks, cost * static_cast<double>(all.size()), [&](std::int64_t from_last) {
        const std::int64_t task = tasks - 1 - from_last, block = task % blocks;
        const std::int64_t start = task / blocks * all.plane_step, row = block * at_once;
        const std::int64_t some = std::min(at_once, all.rows - row);
        if (some > 0) body(start + row * all.row, some, all.columns);
        if (all.rest > 0 && block + 1 == blocks) body(start + all.rows * all.row, 1, all.rest);
    });
}

/// Calls body(offset, rows) for pieces of a block of rows, so small that they stay in L1 between two kernels. The rows
/// of a piece are dense.
template <class Body>
void each_piece(const ChannelRows& all, std::int64_t at, std::int64_t rows, std::int64_t columns, const Body& body) {
    constexpr std::int64_t values = 2048;
    const std::int64_t at_once = all.row == all.columns ? std::max<std::int64_t>(1, values / columns) : 1;
    for (std::int64_t row = 0; row < rows; row += at_once) body(at + row * all.row, std::min(at_once, rows - row));
}

} // namespace fastconv
