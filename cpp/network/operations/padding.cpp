// Padding with a constant, with the edge, or with the reflection of the input at its edge.
//
// All axes after the last padded axis form one block of values. A row of the output consists of the blocks along the
// last padded axis. The axes before that axis number the rows, which are divided among tasks.
#include "core/chunks.h"
#include "core/errors.h"
#include "core/for_type.h"
#include "network/operations/entries.h"

#include <algorithm>
#include <cstring>

namespace fastconv::network {
namespace {

enum class Mode : std::uint8_t { constant, reflect, edge };

constexpr std::int64_t kOutside = -1;

struct PaddedAxis {
    std::int64_t size, before, after;

    std::int64_t output() const { return before + size + after; }
    /// The index of the input for an index of the output, or kOutside where the output is the constant.
    std::int64_t source(std::int64_t index, Mode mode) const {
        const std::int64_t at = index - before;
        if (at >= 0 && at < size) return at;
        if (mode == Mode::constant) return kOutside;
        if (mode == Mode::edge || size == 1) return at < 0 ? 0 : size - 1;
        const std::int64_t period = 2 * (size - 1), place = (at % period + period) % period;
        return std::min(place, period - place);
    }
};

struct PadProblem {
    std::vector<PaddedAxis> outer; // the axes before the last padded one
    PaddedAxis row{1, 0, 0};
    std::int64_t block = 1, rows = 1;
    double value;
    Mode mode;
};

template <class T>
void write_row(const PadProblem& p, const T* from, T* to) {
    const PaddedAxis& row = p.row;
    const T value = static_cast<T>(p.value);
    const auto bytes = [](std::int64_t values) { return static_cast<std::size_t>(values) * sizeof(T); };
    if (from == nullptr) {
        std::fill_n(to, row.output() * p.block, value);
    } else if (p.mode == Mode::constant) {
        to = std::fill_n(to, row.before * p.block, value);
        std::memcpy(to, from, bytes(row.size * p.block));
        std::fill_n(to + row.size * p.block, row.after * p.block, value);
    } else {
        for (std::int64_t i = 0; i < row.output(); ++i, to += p.block)
            std::memcpy(to, from + row.source(i, p.mode) * p.block, bytes(p.block));
    }
}

template <class T>
void pad(const PadProblem& p, const T* from, T* to) {
    const std::int64_t row = p.row.output() * p.block;
    if (p.rows == 0 || row == 0) return;
    const std::int64_t at_once = std::max<std::int64_t>(1, kChunk / row);
    parallel_for(ceil_div(p.rows, at_once), kElementCost * static_cast<double>(p.rows * row), [&](std::int64_t task) {
        for (std::int64_t i = task * at_once; i < std::min(p.rows, (task + 1) * at_once); ++i) {
            std::int64_t rest = i, offset = 0, step = p.row.size * p.block;
            bool outside = p.row.size == 0;
            for (std::size_t axis = p.outer.size(); axis-- > 0;) {
                const PaddedAxis& outer = p.outer[axis];
                const std::int64_t at = outer.source(rest % outer.output(), p.mode);
                rest /= outer.output();
                outside = outside || at == kOutside;
                offset += at * step;
                step *= outer.size;
            }
            write_row(p, outside ? nullptr : from + offset, to + i * row);
        }
    });
}

PaddedAxis padded_axis(std::int64_t size, const Pair& pads, Mode mode) {
    std::int64_t output = 0;
    if (__builtin_add_overflow(size, pads[0], &output) || __builtin_add_overflow(output, pads[1], &output))
        fail("paddings (", pads[0], ", ", pads[1], ") of an axis of size ", size, " overflow 64 bits");
    if (size == 0 && output > 0 && mode != Mode::constant)
        fail("mode must be \"constant\" if an axis of size 0 is padded");
    return {size, pads[0], pads[1]};
}

Prepare bind_pad(const Binding& binding) {
    const std::vector<Pair> paddings = binding.attributes.pairs("paddings");
    const auto mode = static_cast<Mode>(binding.attributes.word("mode"));
    const double value = binding.attributes.number("value");
    return [=, dtype = binding.dtype](const Shapes& inputs) {
        const Dims& dims = inputs[0];
        if (dims.size() != paddings.size())
            fail("the number of paddings must be ", dims.size(), ", one for each dimension of the input, got ",
                 paddings.size());
        PreparedStep step;
        PadProblem problem;
        problem.value = value;
        problem.mode = mode;
        std::size_t last = 0; // the last padded axis
        for (std::size_t i = 0; i < dims.size(); ++i) {
            const PaddedAxis axis = padded_axis(dims[i], paddings[i], mode);
            step.output.push_back(axis.output());
            if (axis.output() != axis.size) last = i;
        }
        element_count(step.output, dtype);
        for (std::size_t i = 0; i < dims.size(); ++i) {
            const PaddedAxis axis{dims[i], paddings[i][0], paddings[i][1]};
            if (i < last) problem.outer.push_back(axis);
            if (i == last) problem.row = axis;
            if (i > last) problem.block *= dims[i];
        }
        problem.rows = product(step.output, 0, last);
        step.by_image = !dims.empty() && step.output[0] == dims[0];
        step.only_reshapes = step.output == dims;
        step.run = [problem, dtype](const void* const* from, void* output) {
            for_type(dtype, [&](auto t) {
                using T = typename decltype(t)::type;
                pad(problem, static_cast<const T*>(from[0]), static_cast<T*>(output));
            });
        };
        return step;
    };
}

} // namespace

std::vector<Operation> padding_entries() {
    AttributeSpec mode{"mode", AttributeKind::word, false, json("constant")};
    mode.words = {"constant", "reflect", "edge"};
    return {
        {{"pad",
          {{"input"}},
          {required("paddings", AttributeKind::pairs), {"value", AttributeKind::number, false, json(0.0)}, mode}},
         bind_pad},
    };
}

} // namespace fastconv::network
