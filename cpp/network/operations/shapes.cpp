// Operations that move values: reshape.
#include "core/errors.h"
#include "network/operations/entries.h"

namespace fastconv::network {
namespace {

/// The shape that `wanted` stands for: 0 takes the input's size, -1 what is left.
Dims resolve_shape(const Dims& input, const Dims& wanted, DataType dtype) {
    Dims output = wanted;
    std::size_t rest = wanted.size();
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        if (wanted[i] == 0) {
            if (i >= input.size())
                fail("shape ", show(wanted), " copies size ", i, " of an input of shape ", show(input));
            output[i] = input[i];
        } else if (wanted[i] == -1) {
            output[rest = i] = 1;
        }
    }
    const std::int64_t count = element_count(input, dtype), known = element_count(output, dtype);
    if (rest < wanted.size()) output[rest] = known == 0 ? 0 : count / known;
    if (element_count(output, dtype) != count)
        fail("an input of shape ", show(input), " cannot have shape ", show(wanted));
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
        return step;
    };
}

} // namespace

std::vector<Operation> shape_entries() {
    return {
        {{"reshape", {{"input"}}, {required("shape", AttributeKind::integers)}}, bind_reshape},
    };
}

} // namespace fastconv::network
