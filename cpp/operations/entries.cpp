#include "operations/entries.h"

#include "algorithms/max_pool_taps.h"

namespace fastconv {
namespace {

ConvArguments named_convolution(const Call& call, ConvInputs from) {
    ConvArguments arguments = call.attributes.convolution;
    arguments.input_name = call.operation->inputs[from.input].name;
    arguments.filters_name = call.operation->inputs[from.filters].name;
    return arguments;
}

PoolArguments named_pooling(const Call& call) {
    PoolArguments arguments = call.attributes.pooling;
    if (call.operation->geometry == Geometry::both) {
        arguments.input_name = "the output of the convolution";
        arguments.ksize_name = name_of(Attribute::pool_size);
        arguments.strides_name = name_of(Attribute::pool_strides);
        arguments.padding_name = name_of(Attribute::pool_padding);
        arguments.output_name = "the max-pooling's output";
    } else {
        arguments.input_name = call.operation->inputs[0].name;
    }
    return arguments;
}

Shape unknown_rank() {
    Shape shape;
    shape.known = false;
    return shape;
}

Shape unknown_sizes(std::size_t rank) {
    Shape shape;
    shape.dims.assign(rank, unknown_size);
    return shape;
}

/// Replaces each unknown size by 1. The other sizes can then be validated, except that the window may seem too large.
Dims with_ones(const Shape& shape) {
    Dims dims = shape.known ? shape.dims : Dims(4, 1);
    for (std::int64_t& d : dims)
        if (d == unknown_size) d = 1;
    return dims;
}

void check_ranks(const Call& call, ConvInputs from) {
    check_rank(call, from.input, ArrayKind::input);
    check_rank(call, from.filters,
               call.attributes.convolution.depthwise ? ArrayKind::depthwise_filters : ArrayKind::filters);
}

} // namespace

void resolve_convolution(Call& call, ConvInputs from, const Dims& input) {
    check_ranks(call, from);
    call.convolution =
        make_conv_problem(call.dtype, input, call.inputs[from.filters].dims, named_convolution(call, from));
}

void resolve_convolution(Call& call, ConvInputs from) { resolve_convolution(call, from, call.inputs[from.input].dims); }

void resolve_pooling(Call& call, std::size_t input) {
    PoolArguments arguments = named_pooling(call);
    arguments.input_name = call.operation->inputs[input].name;
    check_rank(call, input, ArrayKind::input);
    call.pooling = make_pool_problem(call.dtype, call.inputs[input].dims, arguments);
}

void resolve_pooling_of_convolution(Call& call) {
    if (call.attributes.convolution.format != call.attributes.pooling.format)
        throw InvalidArgument("the convolution and the max-pooling of its output must have the same data format");
    const PoolArguments arguments = named_pooling(call);
    call.pooling = make_pool_problem(call.dtype, call.convolution.output_dims(), arguments);
    check_taps(call.pooling, arguments.ksize_name);
    check_plain_pooling(call.pooling);
}

void check_rank(const Call& call, std::size_t index, ArrayKind kind) {
    const Input& input = call.operation->inputs[index];
    if (is_sizes(input.kind) || !call.inputs[index].known) return;
    const Attributes& attributes = call.attributes;
    const bool pooling = call.operation->geometry == Geometry::pooling;
    check_array_rank(input.name, call.inputs[index].dims, kind,
                     pooling ? attributes.pooling.format : attributes.convolution.format);
}

void check_input(const Call& call, std::size_t index, const Dims& expected, const char* why) {
    check_dims(call.operation->inputs[index].name, call.inputs[index].dims, expected, why);
}

void check_epilogue(const Call& call, std::size_t bias_index, std::int64_t channels, const Dims& output) {
    if (call.inputs[bias_index].given) check_input(call, bias_index, {channels}, "one number for each output channel");
    const std::size_t residual = bias_index + 1;
    if (residual < call.operation->inputs.size() && call.inputs[residual].given)
        check_input(call, residual, output, "that of the output");
}

Epilogue epilogue_of(const Call& call, const Buffers& buffers, std::size_t bias_index) {
    return {buffers.inputs[bias_index], call.attributes.activation, buffers.inputs[bias_index + 1]};
}

Dims taps_dims(const PoolProblem& pooling) { return {pooling.n, pooling.p, pooling.q, pooling.c}; }

Shape partial_convolution_output(const Call& call, const Shape& input, const Shape& filters) {
    if (!call.attributes_known) return unknown_rank();
    ConvArguments arguments = named_convolution(call, {0, 1});
    check_ranks(call, {0, 1});
    const auto check = [&] { make_conv_problem(call.dtype, with_ones(input), with_ones(filters), arguments); };
    const bool both = input.known && filters.known;
    const std::size_t channels = channel_axis(arguments.format), height = channels == 3 ? 1 : 2;
    Shape output = unknown_sizes(4);
    if (input.known) output.dims[0] = input.dims[0];
    if (filters.complete()) {
        std::int64_t k = filters.dims[3];
        if (arguments.depthwise && __builtin_mul_overflow(k, filters.dims[2], &k)) k = unknown_size;
        output.dims[channels] = k;
    }
    if (both && input.dims[channels] != unknown_size && filters.dims[2] != unknown_size &&
        filters.dims[3] != unknown_size) {
        const Padding padding = arguments.padding;
        const bool sizes_known =
            filters.complete() && input.dims[height] != unknown_size && input.dims[height + 1] != unknown_size;
        if (!sizes_known) arguments.padding.mode = Padding::Mode::same; // any window fits
        check();
        arguments.padding = padding;
    }
    for (std::size_t axis = 0; both && axis < 2; ++axis) {
        const std::int64_t size = input.dims[height + axis], window = filters.dims[axis];
        if (size == unknown_size || window == unknown_size) continue;
        output.dims[height + axis] = conv_output_size(size, window, arguments.strides[axis], arguments.padding,
                                                      window > 1 ? arguments.dilations[axis] : 1, axis == 0);
    }
    return output;
}

Shape partial_pooling_output(const Call& call, const Shape& input) {
    if (!call.attributes_known) return unknown_rank();
    if (!input.known) return unknown_sizes(4);
    if (call.operation->geometry == Geometry::pooling) check_rank(call, 0, ArrayKind::input);
    const PoolArguments arguments = named_pooling(call);
    if (input.dims.size() != 4) make_pool_problem(call.dtype, with_ones(input), arguments); // throws
    const std::size_t height = channel_axis(arguments.format) == 3 ? 1 : 2;
    Shape output = input;
    for (std::size_t axis = 0; axis < 2; ++axis) {
        const std::int64_t size = input.dims[height + axis];
        const bool known = size != unknown_size || (arguments.adaptive && arguments.output_size[axis] != kept_size);
        if (known) output.dims[height + axis] = pool_output_size(size, arguments, axis == 0);
    }
    Shape one_image = input;
    if (one_image.dims[0] == unknown_size) one_image.dims[0] = 1;
    if (one_image.complete()) make_pool_problem(call.dtype, one_image.dims, arguments);
    return output;
}

Shape partial_bias(const Call& call, const Shape& output) {
    Shape bias = unknown_sizes(1);
    if (call.attributes_known && output.known && output.dims.size() == 4)
        bias.dims[0] = output.dims[channel_axis(call.attributes.convolution.format)];
    return bias;
}

Shape partial_taps(const Call& call, const Shape& pooled) {
    if (!pooled.known) return pooled;
    Shape taps = pooled;
    if (call.attributes.pooling.format == DataFormat::nchw)
        taps.dims = {pooled.dims[0], pooled.dims[2], pooled.dims[3], pooled.dims[1]};
    return taps;
}

} // namespace fastconv
