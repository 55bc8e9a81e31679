// The table's entries for batch normalisation and its gradients.
#include "operations/entries.h"

#include <string>

namespace fastconv {
namespace {

constexpr const char* kOfChannel = "one number for each channel";

/// The place of an input in the operation. An operation without it has it nowhere, at `most_inputs`.
std::size_t place_of(const Call& call, std::string_view name) {
    const std::vector<Input>& inputs = call.operation->inputs;
    for (std::size_t i = 0; i < inputs.size(); ++i)
        if (inputs[i].name == name) return i;
    return most_inputs;
}

bool is_tensor_of_values(std::string_view name) { return name == "input" || name == "residual" || name == "grad"; }

/// The shape of what has a number for each channel.
Shape channel_shape(const Call& call) {
    const Shape& input = call.inputs[0];
    Shape channels;
    channels.dims = {unknown_size};
    const bool nchw = call.attributes.convolution.format == DataFormat::nchw;
    if (input.known && input.dims.size() >= 2 && call.attributes_known)
        channels.dims[0] = nchw ? input.dims[1] : input.dims.back();
    return channels;
}

/// Validates all inputs.
void infer_inputs(Call& call) {
    const Shape& input = call.inputs[0];
    if (input.known && (call.complete() || input.dims.size() < 2)) {
        Dims dims = input.dims;
        for (std::int64_t& d : dims)
            if (d == unknown_size) d = 1;
        call.batch_norm = make_batch_norm_problem(call.dtype, dims, call.attributes.convolution.format,
                                                  call.attributes.epsilon, call.attributes.activation);
    }
    const Shape channels = channel_shape(call);
    for (std::size_t i = 1; i < call.operation->inputs.size(); ++i) {
        if (!call.inputs[i].given || !call.inputs[i].complete()) continue;
        const bool values = is_tensor_of_values(call.operation->inputs[i].name);
        const Shape& expected = values ? input : channels;
        if (expected.complete()) check_input(call, i, expected.dims, values ? "that of input" : kOfChannel);
    }
}

const void* buffer_of(const Call& call, const Buffers& buffers, std::string_view name) {
    const std::size_t place = place_of(call, name);
    return place < most_inputs && call.inputs[place].given ? buffers.inputs[place] : nullptr;
}

BatchNormInputs inputs_of(const Call& call, const Buffers& buffers) {
    const auto of = [&](const char* name) { return buffer_of(call, buffers, name); };
    return {of("input"), of("scale"), of("offset"), of("residual")};
}

// ---- Forward -----------------------------------------------------------------------------------------------------

void infer_batch_norm(Call& call) {
    infer_inputs(call);
    call.outputs[0] = call.inputs[0];
    call.outputs[1] = call.outputs[2] = channel_shape(call);
}

void run_batch_norm(const Call& call, const Buffers& buffers) {
    batch_norm(call.batch_norm, inputs_of(call, buffers), buffers.outputs[0], buffers.outputs[1], buffers.outputs[2]);
}

void infer_statistics(Call& call) {
    infer_inputs(call);
    call.outputs[0] = call.outputs[1] = channel_shape(call);
}

void run_statistics(const Call& call, const Buffers& buffers) {
    batch_norm_statistics(call.batch_norm, buffers.inputs[0], buffers.outputs[0], buffers.outputs[1]);
}

void infer_inference(Call& call) {
    infer_inputs(call);
    call.outputs[0] = call.inputs[0];
}

void run_inference(const Call& call, const Buffers& buffers) {
    batch_norm_inference(call.batch_norm, inputs_of(call, buffers), buffers.inputs[1], buffers.inputs[2],
                         buffers.outputs[0]);
}

// ---- Gradients ---------------------------------------------------------------------------------------------------

void infer_gradient(Call& call) {
    infer_inputs(call);
    call.outputs[0] = call.inputs[0];
    call.outputs[1] = call.outputs[2] = channel_shape(call);
    const bool has_residual = call.inputs[place_of(call, "residual")].given;
    call.outputs[3] = call.inputs[0];
    if (!has_residual) {
        call.outputs[3] = Shape{};
        call.outputs[3].dims = {0}; // graphs have no outputs that are left out
    }
}

BatchNormInputGradients results_of(const Call& call, const Buffers& buffers) {
    const bool has_residual = call.wants(call.operation->outputs[3]);
    return {buffers.outputs[0], buffers.outputs[1], buffers.outputs[2], has_residual ? buffers.outputs[3] : nullptr};
}

void run_gradient(const Call& call, const Buffers& buffers) {
    const auto of = [&](const char* name) { return buffer_of(call, buffers, name); };
    batch_norm_grad(call.batch_norm, inputs_of(call, buffers), of("mean"), of("variance"),
                    {of("grad"), of("grad_mean"), of("grad_variance")}, results_of(call, buffers));
}

void run_inference_gradient(const Call& call, const Buffers& buffers) {
    const auto of = [&](const char* name) { return buffer_of(call, buffers, name); };
    batch_norm_inference_grad(call.batch_norm, inputs_of(call, buffers), of("mean"), of("variance"), of("grad"),
                              results_of(call, buffers));
}

} // namespace

std::vector<Operation> batch_norm_entries() {
    const AttributeSet attributes{Attribute::data_format, Attribute::activation, Attribute::epsilon};
    const Input input{"input"}, mean{"mean"}, variance{"variance"}, grad{"grad"};
    const auto optional = [](const char* name) { return Input{name, InputKind::optional_tensor}; };
    const Input scale = optional("scale"), offset = optional("offset"), residual = optional("residual");
    const std::vector<Input> of_gradient{input, mean, variance, grad, scale, offset, residual};
    std::vector<Input> of_batch_gradient = of_gradient;
    for (const char* name : {"grad_mean", "grad_variance"}) of_batch_gradient.push_back(optional(name));
    Output grad_residual{"grad_residual"};
    grad_residual.only_with_input = 6;
    const std::vector<Output> gradients{{"grad_input"}, {"grad_scale"}, {"grad_offset"}, grad_residual};
    const Geometry geometry = Geometry::elementwise;
    return {
        {"batch_norm",
         {input, scale, offset, residual},
         geometry,
         attributes,
         {{"output"}, {"mean"}, {"variance"}},
         infer_batch_norm,
         run_batch_norm},
        {"batch_norm_grad", of_batch_gradient, geometry, attributes, gradients, infer_gradient, run_gradient},
        {"batch_norm_inference",
         {input, mean, variance, scale, offset, residual},
         geometry,
         attributes,
         {{"output"}},
         infer_inference,
         run_inference},
        {"batch_norm_inference_grad", of_gradient, geometry, attributes, gradients, infer_gradient,
         run_inference_gradient},
        {"batch_norm_statistics",
         {input},
         geometry,
         {Attribute::data_format},
         {{"mean"}, {"variance"}},
         infer_statistics,
         run_statistics},
    };
}

} // namespace fastconv
