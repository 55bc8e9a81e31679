// Operations that move values without changing them: reshape, transpose, slice, concatenate.
#include "core/errors.h"
#include "core/numbers.h"
#include "network/operations/entries.h"
#include "network/strided_copy.h"

#include <algorithm>
#include <numeric>

namespace fastconv::network {
namespace {

// ---- Reshape -----------------------------------------------------------------------------------------------------

/// The shape that `wanted` stands for. A 0 copies the size of the same axis of the input. A -1 stands for the size that
/// keeps the number of elements. This size follows from the sizes that are not copied, so a copied size may be 0.
Dims resolve_shape(const Dims& input, const Dims& wanted, DataType dtype) {
    Dims output = wanted, others = input; // others: copied sizes become 1
    std::size_t rest = wanted.size();
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        if (wanted[i] == 0) {
            if (i >= input.size())
                fail("shape must have no 0 beyond the axes of the input, got ", show(wanted), " for an input of shape ",
                     show(input));
            output[i] = input[i];
            others[i] = 1;
        } else if (wanted[i] == -1) {
            rest = i;
        }
    }
    if (rest < wanted.size()) {
        std::int64_t known = 1;
        for (const std::int64_t size : wanted)
            if (size > 0 && __builtin_mul_overflow(known, size, &known))
                fail("the product of shape ", show(wanted), " overflows 64 bits");
        output[rest] = product(others, 0, others.size()) / known;
    }
    if (element_count(output, dtype) != element_count(input, dtype))
        fail("shape must have as many elements as the input of shape ", show(input), ", got ", show(wanted));
    return output;
}

Prepare bind_reshape(const Binding& binding) {
    const Dims wanted = binding.attributes.integers("shape");
    std::size_t unknown = 0;
    for (const std::int64_t size : wanted) {
        if (size < -1) fail("shape must have sizes of at least -1, got ", show(wanted));
        unknown += size == -1 ? 1 : 0;
    }
    if (unknown > 1) fail("shape must have at most one -1, got ", show(wanted));
    return [wanted, dtype = binding.dtype](const Shapes& inputs) {
        PreparedStep step;
        step.output = resolve_shape(inputs[0], wanted, dtype);
        step.only_reshapes = true;
        step.by_image = !step.output.empty() && !inputs[0].empty() && step.output[0] == inputs[0][0];
        return step;
    };
}

// ---- Transpose ---------------------------------------------------------------------------------------------------

Prepare bind_transpose(const Binding& binding) {
    const Dims perm = binding.attributes.integers("perm");
    Dims sorted = perm, axes(perm.size());
    std::sort(sorted.begin(), sorted.end());
    std::iota(axes.begin(), axes.end(), std::int64_t{0});
    if (sorted != axes)
        fail("perm must hold each of 0 ... ", static_cast<std::int64_t>(perm.size()) - 1, " once, got ", show(perm));
    return [perm, dtype = binding.dtype](const Shapes& inputs) {
        const Dims& dims = inputs[0];
        if (dims.size() != perm.size())
            fail("the length of perm must be ", dims.size(), ", the number of dimensions of the input, got ",
                 perm.size());
        const Dims steps = dense_steps(dims);
        Dims from;
        PreparedStep step;
        for (const std::int64_t axis : perm) {
            step.output.push_back(dims[static_cast<std::size_t>(axis)]);
            from.push_back(steps[static_cast<std::size_t>(axis)]);
        }
        const StridedCopy copy(step.output, from, dense_steps(step.output), dtype);
        step.by_image = !perm.empty() && perm[0] == 0;
        step.only_reshapes = copy.is_one_run(); // then only axes of size 1 move
        step.run = [copy](const void* const* inputs_of_step, void* output) { copy.run(inputs_of_step[0], output); };
        return step;
    };
}

// ---- Slice -------------------------------------------------------------------------------------------------------

struct Range {
    std::int64_t first, count;
};

/// The elements that Python's slice(begin, end, stride) takes from a sequence of `size` elements.
Range slice_range(std::optional<std::int64_t> begin, std::optional<std::int64_t> end, std::int64_t stride,
                  std::int64_t size) {
    const std::int64_t low = stride > 0 ? 0 : -1, high = stride > 0 ? size : size - 1;
    const auto limit = [&](std::optional<std::int64_t> at, std::int64_t otherwise) {
        if (!at) return otherwise;
        return std::clamp(*at < 0 ? *at + size : *at, low, high);
    };
    const std::int64_t first = limit(begin, stride > 0 ? low : high), last = limit(end, stride > 0 ? high : low);
    const std::int64_t span = stride > 0 ? last - first : first - last;
    if (span <= 0) return {0, 0};
    // The most negative stride has no positive counterpart.
    const std::int64_t distance = stride > 0 ? stride : -std::max(stride, -size - 1);
    return {first, (span - 1) / distance + 1};
}

Prepare bind_slice(const Binding& binding) {
    const auto begin = binding.attributes.optional_integers("begin"), end = binding.attributes.optional_integers("end");
    Dims strides = binding.attributes.integers("strides");
    if (strides.empty()) strides.assign(begin.size(), 1);
    if (begin.size() != end.size() || begin.size() != strides.size())
        fail("begin, end and strides must have the same length, got ", begin.size(), ", ", end.size(), " and ",
             strides.size());
    if (std::find(strides.begin(), strides.end(), 0) != strides.end())
        fail("strides must not contain 0, got ", show(strides));
    return [=, dtype = binding.dtype](const Shapes& inputs) {
        const Dims& dims = inputs[0];
        if (dims.size() != begin.size())
            fail("the length of begin must be ", dims.size(), ", the number of dimensions of the input, got ",
                 begin.size());
        Dims from = dense_steps(dims);
        std::int64_t offset = 0;
        PreparedStep step;
        for (std::size_t i = 0; i < dims.size(); ++i) {
            const Range range = slice_range(begin[i], end[i], strides[i], dims[i]);
            step.output.push_back(range.count);
            if (i == 0) step.by_image = range.first == 0 && range.count == dims[0];
            offset += range.first * from[i];
            if (range.count > 1) from[i] *= strides[i];
        }
        const StridedCopy copy(step.output, from, dense_steps(step.output), dtype);
        step.run = [copy, offset = offset * size_of(dtype)](const void* const* inputs_of_step, void* output) {
            copy.run(static_cast<const std::byte*>(inputs_of_step[0]) + offset, output);
        };
        return step;
    };
}

// ---- Concatenate -------------------------------------------------------------------------------------------------

/// Copies inputs side by side into an output with the strides `to`.
Run concatenation(const Shapes& inputs, std::size_t axis, const Dims& to, DataType dtype) {
    std::vector<std::pair<StridedCopy, std::int64_t>> copies; // with the offset of each result
    std::int64_t offset = 0;
    for (const Dims& dims : inputs) {
        copies.emplace_back(StridedCopy(dims, dense_steps(dims), to, dtype), offset * size_of(dtype));
        offset += dims[axis] * to[axis];
    }
    return [copies](const void* const* from, void* output) {
        for (std::size_t i = 0; i < copies.size(); ++i)
            if (from[i] != nullptr) copies[i].first.run(from[i], static_cast<std::byte*>(output) + copies[i].second);
    };
}

Prepare bind_concatenate(const Binding& binding) {
    const std::int64_t which = binding.attributes.integer("axis");
    return [which, dtype = binding.dtype](const Shapes& inputs) {
        const std::size_t axis = normal_axis(which, inputs[0].size());
        PreparedStep step;
        step.output = inputs[0];
        for (std::size_t i = 1; i < inputs.size(); ++i) {
            Dims same = inputs[i];
            if (same.size() == inputs[0].size()) same[axis] = inputs[0][axis];
            if (same != inputs[0])
                fail("the inputs' shapes must not differ in an axis other than ", axis, ", got ", show(inputs[0]),
                     " and ", show(inputs[i]));
            if (__builtin_add_overflow(step.output[axis], inputs[i][axis], &step.output[axis]))
                fail("the size of axis ", axis, " of the output overflows 64 bits");
        }
        element_count(step.output, dtype);
        step.by_image = axis > 0;
        step.run = concatenation(inputs, axis, dense_steps(step.output), dtype);
        if (axis > 0 && axis + 1 == step.output.size()) {
            step.writing_rows = [=, output = step.output](std::int64_t row) {
                Dims rows = output;
                rows.back() = row;
                return concatenation(inputs, axis, dense_steps(rows), dtype);
            };
        }
        return step;
    };
}

} // namespace

std::vector<Operation> shape_entries() {
    const std::vector<InputSpec> input{{"input"}};
    return {
        {{"reshape", input, {required("shape", AttributeKind::integers)}}, bind_reshape},
        {{"transpose", input, {required("perm", AttributeKind::integers)}}, bind_transpose},
        {{"slice",
          input,
          {required("begin", AttributeKind::optional_integers),
           required("end", AttributeKind::optional_integers),
           {"strides", AttributeKind::integers, false, json(std::initializer_list<std::int64_t>{})}}},
         bind_slice},
        {{"concatenate", {{"inputs", InputKind::tensors}}, {required("axis", AttributeKind::integer)}},
         bind_concatenate},
    };
}

} // namespace fastconv::network
