// The table's entries for convolutions, their gradients, and the gradients of bias and ReLU.
#include "fastconv/elementwise.h"
#include "operations/entries.h"

namespace fastconv {
namespace {

constexpr const char* kConvOutput = "the output of this convolution";
constexpr AttributeSet kFormatAlone{Attribute::data_format};

// ---- Forward -----------------------------------------------------------------------------------------------------

void infer_conv2d(Call& call) {
    if (!call.complete()) {
        call.outputs[0] = partial_convolution_output(call, call.inputs[0], call.inputs[1]);
        return;
    }
    resolve_convolution(call, {0, 1});
    check_bias(call, 2);
    call.outputs[0].dims = call.convolution.output_dims();
}

void run_conv2d(const Call& call, const Buffers& buffers) {
    const auto& [input, filters, bias, unused] = buffers.inputs;
    if (buffers.packed != nullptr)
        conv2d(call.convolution, input, *buffers.packed, bias, call.attributes.activation, buffers.outputs[0]);
    else
        conv2d(call.convolution, input, filters, bias, call.attributes.activation, buffers.outputs[0], buffers.holder);
}

// ---- The gradient of the input, and the transposed convolution that is the same -----------------------------------

void infer_backprop_input(Call& call) {
    if (!call.complete()) {
        call.outputs[0] = call.inputs[0];
        return;
    }
    resolve_convolution(call, {0, 1});
    check_input(call, 2, call.convolution.output_dims(), kConvOutput);
    call.outputs[0].dims = call.convolution.input_dims();
}

void run_input_gradient(const Call& call, const Buffers& buffers, const void* filters, const void* out_backprop) {
    if (buffers.packed != nullptr)
        conv2d_backprop_input(call.convolution, *buffers.packed, out_backprop, buffers.outputs[0]);
    else
        conv2d_backprop_input(call.convolution, filters, out_backprop, buffers.outputs[0], buffers.holder);
}

void run_backprop_input(const Call& call, const Buffers& buffers) {
    run_input_gradient(call, buffers, buffers.inputs[1], buffers.inputs[2]);
}

/// The whole output shape where the caller gives height and width alone.
Dims transposed_sizes(const Call& call) {
    const Dims &input = call.inputs[0].dims, &filters = call.inputs[1].dims, &sizes = call.inputs[2].dims;
    if (sizes.size() != 2) return sizes;
    check_rank(call, 0, ArrayKind::output);
    check_rank(call, 1, ArrayKind::filters);
    if (call.attributes.convolution.format == DataFormat::nhwc) return {input[0], sizes[0], sizes[1], filters[2]};
    return {input[0], filters[2], sizes[0], sizes[1]};
}

void infer_transpose(Call& call) {
    if (!call.complete()) {
        const Shape& sizes = call.inputs[2];
        if (sizes.known && sizes.dims.size() == 4)
            call.outputs[0] = sizes;
        else
            call.outputs[0].dims.assign(4, unknown_size);
        return;
    }
    resolve_convolution(call, {2, 1}, transposed_sizes(call));
    check_input(call, 0, call.convolution.output_dims(), "what a convolution of output_shape with these filters gives");
    call.outputs[0].dims = call.convolution.input_dims();
}

void run_transpose(const Call& call, const Buffers& buffers) {
    run_input_gradient(call, buffers, buffers.inputs[1], buffers.inputs[0]);
}

// ---- The gradient of the filters -----------------------------------------------------------------------------------

void infer_backprop_filter(Call& call) {
    if (!call.complete()) {
        call.outputs[0] = call.inputs[1];
        return;
    }
    resolve_convolution(call, {0, 1});
    check_input(call, 2, call.convolution.output_dims(), kConvOutput);
    call.outputs[0].dims = call.convolution.filter_dims();
}

void run_backprop_filter(const Call& call, const Buffers& buffers) {
    conv2d_backprop_filter(call.convolution, buffers.inputs[0], buffers.inputs[2], buffers.outputs[0], buffers.holder);
}

void infer_backprop_filter_bias(Call& call) {
    infer_backprop_filter(call);
    if (call.complete())
        call.outputs[1].dims = {call.convolution.k};
    else
        call.outputs[1] = partial_bias(call, call.inputs[2]);
}

void run_backprop_filter_bias(const Call& call, const Buffers& buffers) {
    run_backprop_filter(call, buffers);
    const ConvProblem& problem = call.convolution;
    bias_gradient(problem.dtype, problem.format, problem.output_dims(), buffers.inputs[2], nullptr, nullptr,
                  buffers.outputs[1]);
}

// ---- The gradients of the bias, and of the ReLU after it ----------------------------------------------------------

void infer_bias_gradient(Call& call) {
    check_rank(call, 0, ArrayKind::output);
    call.outputs[0] = partial_bias(call, call.inputs[0]);
}

void run_bias_gradient(const Call& call, const Buffers& buffers) {
    bias_gradient(call.dtype, call.attributes.convolution.format, call.inputs[0].dims, buffers.inputs[0], nullptr,
                  nullptr, buffers.outputs[0]);
}

void infer_relu_bias_grad(Call& call) {
    if (call.complete()) {
        check_input(call, 1, call.inputs[0].dims, "as gradients");
        check_rank(call, 0, ArrayKind::output);
    }
    call.outputs[0] = call.inputs[1];
    call.outputs[1] = partial_bias(call, call.inputs[1]);
}

void run_relu_bias_grad(const Call& call, const Buffers& buffers) {
    const auto& [gradients, features, unused, unused_too] = buffers.inputs;
    bias_gradient(call.dtype, call.attributes.convolution.format, call.inputs[0].dims, gradients, features,
                  buffers.outputs[0], buffers.outputs[1]);
}

} // namespace

std::vector<Operation> convolution_entries() {
    const Input filters{"filters", InputKind::filters}, bias{"bias", InputKind::optional_tensor};
    return {
        {"conv2d",
         {{"input"}, filters, bias},
         Geometry::convolution,
         convolution_attributes | AttributeSet{Attribute::activation},
         {{"output"}},
         infer_conv2d,
         run_conv2d},
        {"conv2d_backprop_input",
         {{"input_sizes", InputKind::sizes}, filters, {"out_backprop"}},
         Geometry::convolution,
         convolution_attributes,
         {{"output"}},
         infer_backprop_input,
         run_backprop_input},
        {"conv2d_transpose",
         {{"input"}, filters, {"output_shape", InputKind::sizes}},
         Geometry::convolution,
         convolution_attributes,
         {{"output"}},
         infer_transpose,
         run_transpose},
        {"conv2d_backprop_filter",
         {{"input"}, {"filter_sizes", InputKind::sizes}, {"out_backprop"}},
         Geometry::convolution,
         convolution_attributes,
         {{"output"}},
         infer_backprop_filter,
         run_backprop_filter},
        {"conv2d_backprop_filter_bias",
         {{"input"}, {"filter_sizes", InputKind::sizes}, {"out_backprop"}},
         Geometry::convolution,
         convolution_attributes,
         {{"output"}, {"bias"}},
         infer_backprop_filter_bias,
         run_backprop_filter_bias},
        {"bias_gradient",
         {{"out_backprop"}},
         Geometry::convolution,
         kFormatAlone,
         {{"output"}},
         infer_bias_gradient,
         run_bias_gradient},
        {"relu_bias_grad",
         {{"gradients"}, {"features"}},
         Geometry::convolution,
         kFormatAlone,
         {{"output", OutputKind::tensor, 0}, {"bias"}},
         infer_relu_bias_grad,
         run_relu_bias_grad},
    };
}

} // namespace fastconv
