// The table's entries for convolutions, their gradients, and the gradients of bias and ReLU.
#include "fastconv/elementwise.h"
#include "operations/entries.h"

#include <algorithm>

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
    call.outputs[0].dims = call.convolution.output_dims();
    check_epilogue(call, 2, call.convolution.k, call.outputs[0].dims);
}

void run_conv2d(const Call& call, const Buffers& buffers) {
    const void *input = buffers.inputs[0], *filters = buffers.inputs[1];
    const Epilogue epilogue = epilogue_of(call, buffers, 2);
    if (buffers.packed != nullptr)
        conv2d(call.convolution, input, *buffers.packed, epilogue, buffers.outputs[0]);
    else
        conv2d(call.convolution, input, filters, epilogue, buffers.outputs[0], buffers.holder);
}

// ---- The gradient of the input, which a transposed convolution computes, too ---------------------------------------

/// The full shape of the input, even if the caller gives only height and width. The batch size then comes from the
/// gradient, and the channel count from the filters, for one group. A size may be unknown.
Dims whole_input_sizes(const Call& call, std::size_t sizes_index, std::size_t gradient_index) {
    const Shape &sizes = call.inputs[sizes_index], &gradient = call.inputs[gradient_index], &filters = call.inputs[1];
    if (sizes.dims.size() != 2) return sizes.dims;
    const std::int64_t height = sizes.dims[0], width = sizes.dims[1];
    const std::int64_t batch = gradient.known ? gradient.dims[0] : unknown_size;
    const std::int64_t channels = filters.known ? filters.dims[2] : unknown_size;
    if (call.attributes.convolution.format == DataFormat::nhwc) return {batch, height, width, channels};
    return {batch, channels, height, width};
}

void check_size_count(const Call& call, std::size_t index) {
    const std::size_t count = call.inputs[index].dims.size();
    if (count != 2 && count != 4)
        throw InvalidArgument(std::string(call.operation->inputs[index].name) +
                              " must have 4 numbers, or 2 for height and width, got " + std::to_string(count));
}

/// Infers the shape of the gradient with respect to a convolution's input. Input `gradient_index` is the gradient with
/// respect to its output. A complete call is resolved, too. In others, sizes may stay unknown.
void infer_input_gradient(Call& call, std::size_t sizes_index, std::size_t gradient_index, const char* why) {
    const Shape& sizes = call.inputs[sizes_index];
    if (sizes.known) check_size_count(call, sizes_index);
    for (const std::size_t i : {gradient_index, std::size_t{1}})
        if (sizes.known && sizes.dims.size() == 2 && call.inputs[i].known)
            check_rank(call, i, i == 1 ? ArrayKind::filters : ArrayKind::output);
    if (!call.complete()) {
        if (sizes.known && call.attributes_known)
            call.outputs[0].dims = whole_input_sizes(call, sizes_index, gradient_index);
        else
            call.outputs[0].dims.assign(4, unknown_size);
        return;
    }
    resolve_convolution(call, {sizes_index, 1}, whole_input_sizes(call, sizes_index, gradient_index));
    if (!sizes.given) { // output_padding may add rows and columns that the gradient does not reach
        const std::size_t height = call.convolution.format == DataFormat::nhwc ? 1 : 2;
        call.convolution.p = std::min(call.convolution.p, call.inputs[gradient_index].dims[height]);
        call.convolution.q = std::min(call.convolution.q, call.inputs[gradient_index].dims[height + 1]);
    }
    check_input(call, gradient_index, call.convolution.output_dims(), why);
    call.outputs[0].dims = call.convolution.input_dims();
}

void infer_backprop_input(Call& call) { infer_input_gradient(call, 0, 2, kConvOutput); }

void run_backprop_input(const Call& call, const Buffers& buffers) {
    const void* const out_backprop = buffers.inputs[2];
    if (buffers.packed != nullptr)
        conv2d_backprop_input(call.convolution, *buffers.packed, out_backprop, buffers.outputs[0]);
    else
        conv2d_backprop_input(call.convolution, buffers.inputs[1], out_backprop, buffers.outputs[0], buffers.holder);
}

void infer_transpose(Call& call) {
    set_transposed_sizes(call, 0, 2);
    infer_input_gradient(call, 2, 0, "the output of a convolution of output_shape with these filters");
    if (call.complete()) check_epilogue(call, 3, call.convolution.c, call.outputs[0].dims);
}

void run_transpose(const Call& call, const Buffers& buffers) {
    const Epilogue epilogue = epilogue_of(call, buffers, 3);
    if (buffers.packed != nullptr)
        conv2d_transpose(call.convolution, buffers.inputs[0], *buffers.packed, epilogue, buffers.outputs[0]);
    else
        conv2d_transpose(call.convolution, buffers.inputs[0], buffers.inputs[1], epilogue, buffers.outputs[0],
                         buffers.holder);
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
        check_input(call, 1, call.inputs[0].dims, "that of gradients");
        check_rank(call, 0, ArrayKind::output);
    }
    call.outputs[0] = call.inputs[1];
    call.outputs[1] = partial_bias(call, call.inputs[1]);
}

void run_relu_bias_grad(const Call& call, const Buffers& buffers) {
    const void *gradients = buffers.inputs[0], *features = buffers.inputs[1];
    bias_gradient(call.dtype, call.attributes.convolution.format, call.inputs[0].dims, gradients, features,
                  buffers.outputs[0], buffers.outputs[1]);
}

} // namespace

std::vector<Operation> convolution_entries() {
    const Input filters{"filters", InputKind::filters}, bias{"bias", InputKind::optional_tensor};
    const Input late_bias{"bias", InputKind::optional_tensor, false};
    const Input residual{"residual", InputKind::optional_tensor, false};
    return {
        {"conv2d",
         {{"input"}, filters, bias, residual},
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
         {{"input"}, filters, {"output_shape", InputKind::optional_sizes}, late_bias, residual},
         Geometry::convolution,
         convolution_attributes | AttributeSet{Attribute::activation, Attribute::output_padding},
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
