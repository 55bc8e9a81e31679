// A tensor as rows of columns, each of which belongs to one channel, for the kernels of batch normalisation.
//
// In NHWC, a row is a pixel. If channels are few, it is several pixels, so that it fills vectors. In NCHW, a row is a
// piece of a plane, and all its columns belong to the plane's channel. What does not fill a row at the end of a plane
// is the `rest`. The numbers of channels are repeated, one for each column: `columns` numbers in NHWC, and `columns`
// numbers for each channel in NCHW.
#pragma once

#include "core/numbers.h"
#include "core/threads/parallel_for.h"
#include "fastconv/batch_norm.h"

#include <algorithm>
#include <cstdint>

namespace fastconv {

struct ChannelRows {
    /// `width` is the number of elements of a vector.
    ChannelRows(const BatchNormProblem& problem, std::int64_t width);

    bool planar; // NCHW
    std::int64_t planes, channels, columns;
    std::int64_t rows, rest; // of a plane

    std::int64_t plane() const { return rows * columns + rest; }
    std::int64_t size() const { return planes * plane(); }
    /// How many numbers there are for all columns.
    std::int64_t numbers() const { return planar ? channels * columns : columns; }
    /// Stores a channel's value for each of its columns.
    template <class T>
    void repeat(std::int64_t channel, T value, T* numbers_of_all) const {
        if (planar)
            std::fill_n(numbers_of_all + channel * columns, columns, value);
        else
            for (std::int64_t i = channel; i < columns; i += channels) numbers_of_all[i] = value;
    }
    /// The number of the first column of a plane.
    std::int64_t first_number(std::int64_t plane) const { return planar ? plane % channels * columns : 0; }
};

/// The parts of a sum over all rows, one task each, which follow from the problem alone. In NHWC, a part is some of the
/// rows. In NCHW, a part is a channel.
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
        const std::int64_t planes = all.planar ? all.planes / all.channels : 1;
        for (std::int64_t i = 0; i < planes; ++i) {
            const std::int64_t start = all.planar ? (i * all.channels + part) * all.plane() : 0;
            const std::int64_t first = all.planar ? 0 : part_start(part, parts, all.rows);
            const std::int64_t last = all.planar ? all.rows : part_start(part + 1, parts, all.rows);
            for (std::int64_t row = first; row < last;) {
                const std::int64_t some = std::min(left, last - row);
                add_some(start + row * all.columns, some, all.columns);
                row += some;
            }
            if (all.rest > 0 && last == all.rows && (all.planar || part + 1 == parts))
                add_some(start + all.rows * all.columns, 1, all.rest);
        }
        flush();
    }

    /// The number of a part's first column.
    std::int64_t first_number(std::int64_t part) const { return all.planar ? part * all.columns : 0; }
    /// The sums of a channel: `sums_of_channel` of them, at channel*channel_step + i*sum_step among the sums of all
    /// parts, each of `columns` sums.
    std::int64_t sums_of_channel() const { return all.planar ? all.columns : parts * all.columns / all.channels; }
    std::int64_t channel_step() const { return all.planar ? all.columns : 1; }
    std::int64_t sum_step() const { return all.planar ? 1 : all.channels; }
};

/// The rows of a task, if values are independent of each other.
constexpr std::int64_t kTaskValues = 16384;

/// Calls body(offset of the first value, rows, columns, number of the first column) for blocks of rows that make up the
/// tensor, on all threads. The last blocks come first: the pass before this one has left them in the caches.
template <class Body>
void each_row_block(const ChannelRows& all, double cost, const Body& body) {
    const std::int64_t at_once = std::max<std::int64_t>(1, kTaskValues / all.columns);
    const std::int64_t blocks = std::max<std::int64_t>(1, ceil_div(all.rows, at_once)); // of a plane
    const std::int64_t tasks = all.size() == 0 ? 0 : all.planes * blocks;
    parallel_for(tasks, cost * static_cast<double>(all.size()), [&](std::int64_t from_last) {
        const std::int64_t task = tasks - 1 - from_last, plane = task / blocks, block = task % blocks;
        const std::int64_t start = plane * all.plane(), number = all.first_number(plane), row = block * at_once;
        const std::int64_t some = std::min(at_once, all.rows - row);
        if (some > 0) body(start + row * all.columns, some, all.columns, number);
        if (all.rest > 0 && block + 1 == blocks) body(start + all.rows * all.columns, 1, all.rest, number);
    });
}

/// Calls body(offset, rows) for pieces of a block of rows, so small that they stay in L1 between two kernels.
template <class Body>
void each_piece(std::int64_t at, std::int64_t rows, std::int64_t columns, const Body& body) {
    constexpr std::int64_t values = 2048;
    const std::int64_t at_once = std::max<std::int64_t>(1, values / columns);
    for (std::int64_t row = 0; row < rows; row += at_once) body(at + row * columns, std::min(at_once, rows - row));
}

} // namespace fastconv
