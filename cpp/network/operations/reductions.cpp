// Reductions along any axes, and layer normalisation.
//
// Neighbouring axes that are both reduced, or both kept, are merged. A reduction along the last of the merged axes is a
// reduction of rows, and one along the axis before it is a reduction of columns. If reduced and kept axes alternate
// more often, the input is transposed first.
#include "core/chunks.h"
#include "core/errors.h"
#include "core/for_type.h"
#include "core/isa.h"
#include "core/workspace.h"
#include "network/operations/entries.h"
#include "network/strided_copy.h"

#include <algorithm>

namespace fastconv::network {
namespace {

constexpr const char* kMethods[] = {"mean", "sum", "prod", "max", "min"};
constexpr std::int64_t kColumns = 256, kRows = 512; // the most that one task reduces; up to 2*kRows rows are not split

/// The input has shape (outer, reduced, inner), and the output (outer, inner).
struct ReduceProblem {
    std::int64_t outer = 1, reduced = 1, inner = 1;
    Reduction method;
    bool mean;
    std::shared_ptr<const StridedCopy> transpose; // null if the input has this order already
};

/// Reduces columns, each in one task.
template <class T>
void fold_middle(const ReduceProblem& p, const T* from, T* to) {
    const std::int64_t pieces = ceil_div(p.inner, kColumns);
    const double cost = kElementCost * static_cast<double>(p.outer * p.reduced * p.inner);
    parallel_for(p.outer * pieces, cost, [&](std::int64_t task) {
        const std::int64_t o = task / pieces, first = task % pieces * kColumns;
        kernels<T>().fold_columns[static_cast<std::size_t>(p.method)](from + o * p.reduced * p.inner + first, p.inner,
                                                                      p.reduced, std::min(kColumns, p.inner - first),
                                                                      to + o * p.inner + first);
    });
}

template <class T>
void reduce(const ReduceProblem& p, const T* from, T* to) {
    const auto method = static_cast<std::size_t>(p.method);
    const std::int64_t results = p.outer * p.inner;
    const double cost = kElementCost * static_cast<double>(results * p.reduced);
    if (p.reduced == 0) { // of no values: only sums, means and products
        std::fill_n(to, results, p.mean ? static_cast<T>(__builtin_nan("")) : p.method == Reduction::sum ? T{0} : T{1});
    } else if (p.inner == 1) {
        const std::int64_t at_once = std::max<std::int64_t>(1, kChunk / p.reduced);
        parallel_for(ceil_div(p.outer, at_once), cost, [&](std::int64_t task) {
            for (std::int64_t i = task * at_once; i < std::min(p.outer, (task + 1) * at_once); ++i)
                to[i] = kernels<T>().fold_row[method](from + i * p.reduced, p.reduced);
        });
    } else if (p.reduced > 2 * kRows) {
        const std::int64_t blocks = ceil_div(p.reduced, kRows);
        const Scratch<T> partial(p.outer * blocks * p.inner);
        parallel_for(p.outer * blocks, cost, [&](std::int64_t task) {
            const std::int64_t first = task % blocks * kRows, row = task / blocks * p.reduced + first;
            kernels<T>().fold_columns[method](from + row * p.inner, p.inner, std::min(kRows, p.reduced - first),
                                              p.inner, partial.get() + task * p.inner);
        });
        fold_middle({p.outer, blocks, p.inner, p.method, false, nullptr}, partial.get(), to);
    } else {
        fold_middle(p, from, to);
    }
    if (p.mean && p.reduced > 0)
        for (std::int64_t i = 0; i < results; ++i) to[i] /= static_cast<T>(p.reduced);
}

/// Which axes are reduced.
std::vector<bool> reduced_axes(const Dims& axes, std::size_t rank) {
    std::vector<bool> reduced(rank);
    for (const std::int64_t axis : axes) {
        const std::size_t index = normal_axis(axis, rank);
        if (reduced[index]) fail("axes must not name an axis more than once, got ", show(axes));
        reduced[index] = true;
    }
    return reduced;
}

/// Sets the sizes, and the transpose if one is needed.
void set_order(ReduceProblem& problem, const Dims& dims, const std::vector<bool>& reduced, DataType dtype) {
    int groups = 0; // runs of neighbouring reduced axes
    bool inside = false;
    for (std::size_t i = 0; i < dims.size(); ++i) {
        if (dims[i] == 1) continue;
        if (reduced[i] && !inside) ++groups;
        inside = reduced[i];
        (reduced[i] ? problem.reduced : groups == 0 ? problem.outer : problem.inner) *= dims[i];
    }
    if (groups <= 1) return;
    const Dims steps = dense_steps(dims);
    Dims order, from;
    problem.outer *= problem.inner;
    problem.inner = 1;
    for (const bool last : {false, true}) {
        for (std::size_t i = 0; i < dims.size(); ++i) {
            if (reduced[i] != last) continue;
            order.push_back(dims[i]);
            from.push_back(steps[i]);
        }
    }
    problem.transpose = std::make_shared<const StridedCopy>(order, from, dense_steps(order), dtype);
}

Prepare bind_reduce(const Binding& binding) {
    const Dims axes = binding.attributes.integers("axes");
    const bool keep = binding.attributes.boolean("keepdims");
    const std::size_t word = binding.attributes.word("method");
    return [=, dtype = binding.dtype](const Shapes& inputs) {
        const Dims& dims = inputs[0];
        const std::vector<bool> reduced = reduced_axes(axes, dims.size());
        PreparedStep step;
        for (std::size_t i = 0; i < dims.size(); ++i) {
            if (!reduced[i])
                step.output.push_back(dims[i]);
            else if (keep)
                step.output.push_back(1);
        }
        step.by_image = !reduced.empty() && !reduced[0];
        ReduceProblem problem;
        problem.mean = word == 0;
        problem.method = word == 0 ? Reduction::sum : static_cast<Reduction>(word - 1);
        set_order(problem, dims, reduced, dtype);
        const std::int64_t count = element_count(dims, dtype);
        if (problem.reduced == 0 && problem.method > Reduction::product && element_count(step.output, dtype) > 0)
            fail("input must have no reduced axis of size 0, because a ", kMethods[word], " needs a value, got shape ",
                 show(dims));
        step.operations = static_cast<double>(count);
        step.run = [problem, count, dtype](const void* const* from, void* output) {
            for_type(dtype, [&](auto t) {
                using T = typename decltype(t)::type;
                if (problem.transpose == nullptr)
                    return reduce(problem, static_cast<const T*>(from[0]), static_cast<T*>(output));
                const Scratch<T> ordered(count);
                problem.transpose->run(from[0], ordered.get());
                reduce(problem, ordered.get(), static_cast<T*>(output));
            });
        };
        return step;
    };
}

// ---- Layer normalisation -----------------------------------------------------------------------------------------

Prepare bind_layer_normalization(const Binding& binding) {
    const std::int64_t which = binding.attributes.integer("axis");
    const double epsilon = binding.attributes.number("epsilon");
    if (!(epsilon >= 0)) fail("epsilon must be at least 0, got ", epsilon);
    return [=, dtype = binding.dtype, given = binding.inputs](const Shapes& inputs) {
        const Dims& dims = inputs[0];
        const std::size_t axis = normal_axis(which, dims.size());
        const std::int64_t rows = product(dims, 0, axis), columns = product(dims, axis, dims.size());
        for (const std::size_t i : {std::size_t{1}, std::size_t{2}})
            if (given[i].given && product(inputs[i], 0, inputs[i].size()) != columns)
                fail(i == 1 ? "scale" : "offset", " must have as many values as the normalised axes together, ",
                     columns, ", got shape ", show(inputs[i]));
        PreparedStep step;
        step.output = dims;
        step.by_image = axis > 0;
        step.may_overwrite = 1;
        step.operations = 7.0 * static_cast<double>(element_count(dims, dtype));
        step.run = [=](const void* const* from, void* output) {
            for_type(dtype, [&](auto t) {
                using T = typename decltype(t)::type;
                for_each_row_block(rows, columns, [&](std::int64_t row, std::int64_t some) {
                    kernels<T>().normalize_rows({static_cast<const T*>(from[0]) + row * columns,
                                                 static_cast<const T*>(from[1]), static_cast<const T*>(from[2]),
                                                 static_cast<T*>(output) + row * columns, some, columns, epsilon});
                });
            });
        };
        return step;
    };
}

} // namespace

std::vector<Operation> reduction_entries() {
    AttributeSpec method = required("method", AttributeKind::word);
    method.words.assign(std::begin(kMethods), std::end(kMethods));
    const InputSpec scale{"scale", InputKind::optional_constant}, offset{"offset", InputKind::optional_constant};
    return {
        {{"reduce",
          {{"input"}},
          {method,
           required("axes", AttributeKind::integers),
           {"keepdims", AttributeKind::boolean, false, json(false)}}},
         bind_reduce},
        {{"layer_normalization",
          {{"input"}, scale, offset},
          {{"axis", AttributeKind::integer, false, json(std::int64_t{-1})},
           {"epsilon", AttributeKind::number, false, json(1e-5)}}},
         bind_layer_normalization},
    };
}

} // namespace fastconv::network
