#include "core/cpu_state.h"
#include "core/made_once.h"
#include "operations/entries.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <utility>

namespace fastconv {

bool Shape::complete() const { return known && std::find(dims.begin(), dims.end(), unknown_size) == dims.end(); }

bool Call::complete() const {
    if (!partial) return true;
    bool all = attributes_known;
    for (std::size_t i = 0; i < operation->inputs.size(); ++i) all = all && inputs[i].complete();
    return all;
}

namespace {

MadeOnce<const std::vector<Operation>> g_operations;

} // namespace

void Operation::run(const Call& call, const Buffers& buffers) const {
    const FloatingPointState state;
    compute(call, buffers);
}

std::size_t Operation::graph_inputs() const {
    std::size_t count = 0;
    while (count < inputs.size() && inputs[count].in_graphs) ++count;
    return count;
}

const std::vector<Operation>& operations() {
    return g_operations.get([] {
        std::vector<Operation> table;
        for (std::vector<Operation> some : {
                 convolution_entries(),
                 pooling_entries(),
                 pooled_convolution_entries(),
                 elementwise_entries(),
                 batch_norm_entries(),
             })
            std::move(some.begin(), some.end(), std::back_inserter(table));
        return std::make_unique<const std::vector<Operation>>(std::move(table));
    });
}

const Operation* find_operation(std::string_view name) {
    for (const Operation& operation : operations())
        if (operation.name == name) return &operation;
    return nullptr;
}

const char* name_of(InputKind kind) {
    static constexpr const char* names[] = {"tensor", "filters", "optional tensor", "sizes", "bytes", "optional sizes"};
    return names[static_cast<std::size_t>(kind)];
}

const char* name_of(OutputKind kind) {
    static constexpr const char* names[] = {"tensor", "bytes", "int64"};
    return names[static_cast<std::size_t>(kind)];
}

const char* name_of(DataType type) { return type == DataType::float32 ? "float32" : "float64"; }

} // namespace fastconv
