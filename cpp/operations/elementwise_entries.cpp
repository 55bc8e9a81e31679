// The table's entries for activations, additions and their gradients. Tensors may have any shape.
#include "fastconv/elementwise.h"

#include "core/geometry.h"
#include "operations/entries.h"

#include <algorithm>
#include <string>

namespace fastconv {
namespace {

/// All inputs and the output have one shape.
void infer(Call& call) {
    const std::vector<Input>& inputs = call.operation->inputs;
    const Shape *const first = call.inputs.data(), *const end = first + inputs.size();
    const std::string why = std::string("that of ") + inputs[0].name;
    if (first->complete()) check_size(inputs[0].name, first->dims, call.dtype, "use smaller dimensions");
    for (std::size_t i = 1; i < inputs.size(); ++i)
        if (first->complete() && call.inputs[i].complete()) check_input(call, i, first->dims, why.c_str());
    const Shape* const complete = std::find_if(first, end, [](const Shape& shape) { return shape.complete(); });
    call.outputs[0] = complete == end ? *first : *complete;
}

/// How many values the tensors have.
std::int64_t count_of(const Call& call) {
    std::int64_t count = 1;
    for (const std::int64_t d : call.inputs[0].dims) count *= d;
    return count;
}

void run_activate(const Call& call, const Buffers& buffers) {
    activate(call.dtype, call.attributes.activation, count_of(call), buffers.inputs[0], buffers.outputs[0]);
}

void run_activate_grad(const Call& call, const Buffers& buffers) {
    activate_grad(call.dtype, call.attributes.activation, count_of(call), buffers.inputs[0], buffers.inputs[1],
                  buffers.outputs[0]);
}

void run_add(const Call& call, const Buffers& buffers) {
    add(call.dtype, call.attributes.activation, count_of(call), buffers.inputs[0], buffers.inputs[1],
        buffers.outputs[0]);
}

void run_add_grad(const Call& call, const Buffers& buffers) {
    add_grad(call.dtype, call.attributes.activation, count_of(call), buffers.inputs[0], buffers.inputs[1],
             buffers.inputs[2], buffers.outputs[0]);
}

Operation elementwise(const char* name, std::vector<Input> inputs, void (*run)(const Call&, const Buffers&)) {
    return {name, std::move(inputs), Geometry::elementwise, {Attribute::activation}, {{"output"}}, infer, run};
}

} // namespace

std::vector<Operation> elementwise_entries() {
    return {
        elementwise("activate", {{"input"}}, run_activate),
        elementwise("activate_grad", {{"input"}, {"grad"}}, run_activate_grad),
        elementwise("add", {{"a"}, {"b"}}, run_add),
        elementwise("add_grad", {{"a"}, {"b"}, {"grad"}}, run_add_grad),
    };
}

} // namespace fastconv
