// The table's entries for a convolution together with the max-pooling of its output.
#include "operations/entries.h"

namespace fastconv {
namespace {

/// Graphs hold the activation in a code that may hold others, too.
void check_activation(const Call& call) {
    if (call.attributes_known && static_cast<std::int64_t>(call.attributes.activation.kind) >= graph_activation_count)
        throw InvalidArgument("activation must be " + activation_choices(true) + ", got '" +
                              show_activation(call.attributes.activation) + "'");
}

void infer_conv2d_max_pool2d(Call& call) {
    check_activation(call);
    if (!call.complete()) {
        const Shape convolved = partial_convolution_output(call, call.inputs[0], call.inputs[1]);
        call.outputs[0] = partial_pooling_output(call, convolved);
        call.outputs[1] = partial_taps(call, call.outputs[0]);
        return;
    }
    resolve_convolution(call, {0, 1});
    resolve_pooling_of_convolution(call);
    check_epilogue(call, 2, call.convolution.k, {});
    call.outputs[0].dims = call.pooling.output_dims();
    call.outputs[1].dims = taps_dims(call.pooling);
}

void run_conv2d_max_pool2d(const Call& call, const Buffers& buffers) {
    const void *input = buffers.inputs[0], *filters = buffers.inputs[1], *bias = buffers.inputs[2];
    const auto compute = [&](const PackedFilters& packed) {
        conv2d_max_pool2d(call.convolution, call.pooling, input, packed, bias, call.attributes.activation.kind,
                          buffers.outputs[0], static_cast<std::uint8_t*>(buffers.outputs[1]));
    };
    if (buffers.packed != nullptr)
        compute(*buffers.packed);
    else
        compute(PackedFilters(call.dtype, call.inputs[1].dims, filters));
}

/// The pooled output is needed to mask the gradient of the ReLU.
void check_output_of_relu(const Call& call) {
    const Shape& output = call.inputs[4];
    if (call.attributes.activation.kind == Activation::relu && !output.given && !output.refused)
        throw InvalidArgument("output must be given if activation is 'relu'; "
                              "pass the pooled output of conv2d_max_pool2d");
}

/// Validates the call, and says whether it is complete.
bool infer_backprop(Call& call) {
    check_activation(call);
    if (call.attributes_known) check_output_of_relu(call);
    if (!call.complete()) return false;
    resolve_convolution(call, {0, 1});
    resolve_pooling_of_convolution(call);
    check_input(call, 2, taps_dims(call.pooling), "N, P, Q, C of the pooling's output, in every data_format");
    check_input(call, 3, call.pooling.output_dims(), pooling_output_text);
    if (call.inputs[4].given) check_input(call, 4, call.pooling.output_dims(), pooling_output_text);
    return true;
}

Shape infer_bias(const Call& call) {
    Shape unknown;
    unknown.known = false;
    return partial_bias(call, partial_convolution_output(call, unknown, call.inputs[1]));
}

void infer_filter_bias(Call& call) {
    const bool complete = infer_backprop(call);
    call.outputs[0] = call.inputs[1];
    if (complete)
        call.outputs[1].dims = {call.convolution.k};
    else
        call.outputs[1] = infer_bias(call);
}

void infer_all_gradients(Call& call) {
    infer_filter_bias(call);
    call.outputs[2] = std::move(call.outputs[1]);
    call.outputs[1] = std::move(call.outputs[0]);
    call.outputs[0] = call.inputs[0];
}

void run_backprop(const Call& call, const Buffers& buffers, void* d_input, void* d_filters, void* d_bias) {
    const auto* const* const inputs = buffers.inputs.data();
    const bool relu = call.attributes.activation.kind == Activation::relu;
    conv2d_max_pool2d_backprop(call.convolution, call.pooling, inputs[0], inputs[1],
                               static_cast<const std::uint8_t*>(inputs[2]), inputs[3], relu ? inputs[4] : nullptr,
                               d_input, d_filters, d_bias);
}

void run_all_gradients(const Call& call, const Buffers& buffers) {
    run_backprop(call, buffers, buffers.outputs[0], buffers.outputs[1], buffers.outputs[2]);
}

void run_filter_bias(const Call& call, const Buffers& buffers) {
    run_backprop(call, buffers, nullptr, buffers.outputs[0], buffers.outputs[1]);
}

void check_taps(const Call& call, const Buffers& buffers) {
    check_tap_numbers(call.operation->inputs[2].name, call.pooling,
                      static_cast<const std::uint8_t*>(buffers.inputs[2]));
}

} // namespace

std::vector<Operation> pooled_convolution_entries() {
    const Input taps{"taps", InputKind::bytes}, output{"output", InputKind::optional_tensor};
    const Output d_filters{"filter_backprop"}, d_bias{"bias_backprop"};
    return {
        {"conv2d_max_pool2d",
         {{"input"}, {"filters", InputKind::filters}, {"bias", InputKind::optional_tensor}},
         Geometry::both,
         pooled_convolution_attributes,
         {{"output"}, {"taps", OutputKind::bytes}},
         infer_conv2d_max_pool2d,
         run_conv2d_max_pool2d},
        {"conv2d_max_pool2d_backprop",
         {{"input"}, {"filters"}, taps, {"grad"}, output},
         Geometry::both,
         pooled_convolution_attributes | AttributeSet{Attribute::input_gradient},
         {{"input_backprop", OutputKind::tensor, -1, true}, d_filters, d_bias},
         infer_all_gradients,
         run_all_gradients,
         check_taps},
        {"conv2d_max_pool2d_backprop_filter_bias",
         {{"input"}, {"filters"}, taps, {"grad"}, output},
         Geometry::both,
         pooled_convolution_attributes,
         {d_filters, d_bias},
         infer_filter_bias,
         run_filter_bias,
         check_taps},
    };
}

} // namespace fastconv
