// Softmax and its logarithm, row by row. If the axis is not the last one, the values along it are first transposed to
// rows.
#include "core/chunks.h"
#include "core/for_type.h"
#include "core/isa.h"
#include "core/workspace.h"
#include "network/operations/entries.h"

#include <cmath>

namespace fastconv::network {
namespace {

/// y = x combined with `number` by the operation `which`.
template <class T>
void with_number(Arithmetic which, const T* x, T number, T* y, std::int64_t count) {
    kernels<T>().arithmetic[static_cast<std::size_t>(which)]({x, &number, 0, 0, 1, 0, y, 1, count});
}

/// The logarithm cannot be computed in place.
template <class T>
void softmax_row(const T* x, T* y, std::int64_t count, bool logarithm) {
    const KernelsOf<T>& kernel = kernels<T>();
    const T most = kernel.fold_row[static_cast<std::size_t>(Reduction::maximum)](x, count);
    kernel.exp_row(x, most, y, count);
    const T sum = kernel.fold_row[static_cast<std::size_t>(Reduction::sum)](y, count);
    if (!logarithm) return with_number(Arithmetic::multiply, y, T{1} / sum, y, count);
    with_number(Arithmetic::subtract, x, most, y, count);
    with_number(Arithmetic::subtract, y, std::log(sum), y, count);
}

/// (outer, count, inner): the sums run along the axis in the middle.
struct SoftmaxProblem {
    std::int64_t outer, count, inner;
    bool logarithm;
};

template <class T>
void softmax(const SoftmaxProblem& p, const T* x, T* y) {
    const double cost = 20.0 * static_cast<double>(p.outer * p.count * p.inner);
    if (p.inner == 1) {
        const std::int64_t at_once = std::max<std::int64_t>(1, kChunk / p.count);
        parallel_for(ceil_div(p.outer, at_once), cost, [&](std::int64_t task) {
            for (std::int64_t i = task * at_once; i < std::min(p.outer, (task + 1) * at_once); ++i)
                softmax_row(x + i * p.count, y + i * p.count, p.count, p.logarithm);
        });
        return;
    }
    const std::int64_t image = p.count * p.inner;
    parallel_for(p.outer, cost, [&](std::int64_t o) {
        const Scratch<T> rows(2 * image);
        T *from = rows.get(), *to = p.logarithm ? from + image : from;
        kernels<T>().transpose(x + o * image, p.inner, from, p.count, p.count, p.inner);
        for (std::int64_t i = 0; i < p.inner; ++i)
            softmax_row(from + i * p.count, to + i * p.count, p.count, p.logarithm);
        kernels<T>().transpose(to, p.count, y + o * image, p.inner, p.inner, p.count);
    });
}

template <bool Logarithm>
Prepare bind_softmax(const Binding& binding) {
    const std::int64_t which = binding.attributes.integer("axis");
    return [which, dtype = binding.dtype](const Shapes& inputs) {
        const Dims& dims = inputs[0];
        const std::size_t axis = normal_axis(which, dims.size());
        const SoftmaxProblem problem{product(dims, 0, axis), dims[axis], product(dims, axis + 1, dims.size()),
                                     Logarithm};
        const std::int64_t count = element_count(dims, dtype);
        PreparedStep step;
        step.output = dims;
        step.by_image = axis > 0;
        step.may_overwrite = Logarithm ? 0 : 1;
        step.operations = 4.0 * static_cast<double>(count);
        step.run = [=](const void* const* from, void* output) {
            if (count == 0) return;
            for_type(dtype, [&](auto t) {
                using T = typename decltype(t)::type;
                softmax(problem, static_cast<const T*>(from[0]), static_cast<T*>(output));
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
