// The table's entries for pooling and its gradients.
#include "operations/entries.h"

namespace fastconv {
namespace {

const std::uint8_t* as_taps(const void* data) { return static_cast<const std::uint8_t*>(data); }

/// For a pooling of input 0. All outputs of the operation have the shape of the pooling's output.
void infer_pooling(Call& call) {
    Shape output;
    if (call.complete()) {
        resolve_pooling(call, 0);
        output.dims = call.pooling.output_dims();
    } else {
        output = partial_pooling_output(call, call.inputs[0]);
    }
    for (std::size_t i = 0; i < call.operation->outputs.size(); ++i) call.outputs[i] = output;
}

/// For a gradient of a pooling, which has the shape of input 0. Returns whether the call is complete.
bool infer_pooling_gradient(Call& call) {
    call.outputs[0] = call.inputs[0];
    if (call.complete()) resolve_pooling(call, 0);
    return call.complete();
}

void check_taps(const Call& call, std::size_t index) {
    check_input(call, index, taps_dims(call.pooling), "N, P, Q, C of the pooling's output, in every data_format");
}

// ---- Max ---------------------------------------------------------------------------------------------------------

void run_max_pool2d(const Call& call, const Buffers& buffers) {
    max_pool2d(call.pooling, buffers.inputs[0], buffers.outputs[0], nullptr, false);
}

void run_max_pool2d_with_argmax(const Call& call, const Buffers& buffers) {
    max_pool2d(call.pooling, buffers.inputs[0], buffers.outputs[0], static_cast<std::int64_t*>(buffers.outputs[1]),
               call.attributes.include_batch_in_index);
}

void infer_max_pool2d_grad(Call& call) {
    if (!infer_pooling_gradient(call)) return;
    check_input(call, 1, call.pooling.output_dims(), pooling_output_text);
    check_input(call, 2, call.pooling.output_dims(), pooling_output_text);
}

void run_max_pool2d_grad(const Call& call, const Buffers& buffers) {
    max_pool2d_grad(call.pooling, buffers.inputs[0], buffers.inputs[2], buffers.outputs[0]);
}

// ---- Max, with the tap of each maximum kept ---------------------------------------------------------------------

void infer_max_pool2d_with_taps(Call& call) {
    infer_pooling(call);
    call.outputs[1] = partial_taps(call, call.outputs[0]);
}

void run_max_pool2d_with_taps(const Call& call, const Buffers& buffers) {
    max_pool2d_with_taps(call.pooling, buffers.inputs[0], buffers.outputs[0],
                         static_cast<std::uint8_t*>(buffers.outputs[1]));
}

void infer_max_pool2d_scatter(Call& call) {
    if (!infer_pooling_gradient(call)) return;
    check_taps(call, 1);
    check_input(call, 2, call.pooling.output_dims(), pooling_output_text);
}

void run_max_pool2d_scatter(const Call& call, const Buffers& buffers) {
    max_pool2d_scatter(call.pooling, as_taps(buffers.inputs[1]), buffers.inputs[2], buffers.outputs[0]);
}

void infer_max_pool2d_gather(Call& call) {
    infer_pooling(call);
    if (call.complete()) check_taps(call, 1);
}

void run_max_pool2d_gather(const Call& call, const Buffers& buffers) {
    max_pool2d_gather(call.pooling, as_taps(buffers.inputs[1]), buffers.inputs[0], buffers.outputs[0]);
}

// ---- Average -------------------------------------------------------------------------------------------------------

void run_avg_pool2d(const Call& call, const Buffers& buffers) {
    avg_pool2d(call.pooling, buffers.inputs[0], buffers.outputs[0]);
}

void infer_avg_pool2d_grad(Call& call) {
    if (infer_pooling_gradient(call)) check_input(call, 1, call.pooling.output_dims(), pooling_output_text);
}

void run_avg_pool2d_grad(const Call& call, const Buffers& buffers) {
    avg_pool2d_grad(call.pooling, buffers.inputs[1], buffers.outputs[0]);
}

Operation pooling(const char* name, std::vector<Input> inputs, std::vector<Output> outputs, void (*infer)(Call&),
                  void (*run)(const Call&, const Buffers&)) {
    return {name, std::move(inputs), Geometry::pooling, pooling_attributes, std::move(outputs), infer, run};
}

} // namespace

std::vector<Operation> pooling_entries() {
    const Input input{"input"}, input_shape{"orig_input_shape", InputKind::sizes}, grad{"grad"};
    const Input taps{"taps", InputKind::bytes};
    const Output output{"output"};
    std::vector<Operation> entries{
        pooling("max_pool2d", {input}, {output}, infer_pooling, run_max_pool2d),
        pooling("max_pool2d_with_argmax", {input}, {output, {"argmax", OutputKind::int64}}, infer_pooling,
                run_max_pool2d_with_argmax),
        pooling("max_pool2d_grad", {{"orig_input"}, {"orig_output"}, grad}, {output}, infer_max_pool2d_grad,
                run_max_pool2d_grad),
        pooling("max_pool2d_with_taps", {input}, {output, {"taps", OutputKind::bytes}}, infer_max_pool2d_with_taps,
                run_max_pool2d_with_taps),
        pooling("max_pool2d_scatter", {input_shape, taps, grad}, {output}, infer_max_pool2d_scatter,
                run_max_pool2d_scatter),
        pooling("max_pool2d_gather", {{"values"}, taps}, {output}, infer_max_pool2d_gather, run_max_pool2d_gather),
        pooling("avg_pool2d", {input}, {output}, infer_pooling, run_avg_pool2d),
        pooling("avg_pool2d_grad", {input_shape, grad}, {output}, infer_avg_pool2d_grad, run_avg_pool2d_grad),
    };
    for (Operation& entry : entries) {
        const std::string_view name = entry.name;
        if (name == "max_pool2d_with_argmax")
            entry.attributes = pooling_attributes | AttributeSet{Attribute::include_batch_in_index};
        if (name == "avg_pool2d" || name == "avg_pool2d_grad")
            entry.attributes = pooling_attributes | AttributeSet{Attribute::count_include_pad};
    }
    return entries;
}

} // namespace fastconv
