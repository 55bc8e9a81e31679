// Softmax and its logarithm.
#include "core/for_type.h"
#include "network/chunks.h"
#include "network/operations/entries.h"

#include <cmath>

namespace fastconv::network {
namespace {

template <class T>
void softmax_row(const T* x, T* y, std::int64_t count, std::int64_t step, bool logarithm) {
    T most = x[0];
    for (std::int64_t i = 0; i < count; ++i)
        if (x[i * step] > most || x[i * step] != x[i * step]) most = x[i * step];
    T sum = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        const T shifted = x[i * step] - most, power = std::exp(shifted);
        sum += power;
        y[i * step] = logarithm ? shifted : power;
    }
    const T scale = logarithm ? std::log(sum) : T{1} / sum;
    for (std::int64_t i = 0; i < count; ++i) y[i * step] = logarithm ? y[i * step] - scale : y[i * step] * scale;
}

template <bool Logarithm>
Prepare bind_softmax(const Binding& binding) {
    const std::int64_t which = binding.attributes.integer("axis");
    return [which, dtype = binding.dtype](const Shapes& inputs) {
        const Dims& dims = inputs[0];
        const std::size_t axis = normal_axis(which, dims.size());
        const std::int64_t outer = product(dims, 0, axis), count = dims[axis],
                           inner = product(dims, axis + 1, dims.size());
        PreparedStep step;
        step.output = dims;
        step.may_overwrite = 1;
        step.operations = static_cast<double>(element_count(dims, dtype));
        step.run = [=](const void* const* from, void* output) {
            if (count == 0) return;
            for_type(dtype, [&](auto t) {
                using T = typename decltype(t)::type;
                const double cost = 20.0 * static_cast<double>(outer * count * inner);
                parallel_for(outer, cost, [&](std::int64_t o) {
                    const std::int64_t first = o * count * inner;
                    for (std::int64_t i = first; i < first + inner; ++i)
                        softmax_row(static_cast<const T*>(from[0]) + i, static_cast<T*>(output) + i, count, inner,
                                    Logarithm);
                });
            });
        };
        return step;
    };
}

} // namespace

std::vector<Operation> softmax_entries() {
    const std::vector<AttributeSpec> axis{{"axis", AttributeKind::integer, false, json(std::int64_t{-1})}};
    return {
        {{"softmax", {{"input"}}, axis}, bind_softmax<false>},
        {{"log_softmax", {{"input"}}, axis}, bind_softmax<true>},
    };
}

} // namespace fastconv::network
