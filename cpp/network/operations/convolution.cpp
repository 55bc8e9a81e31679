// Convolutions and dense layers. The convolutions in the operation table (operations/table.cpp) compute them.
//
// The filters of a step never change, so they are packed at the first run of each geometry. A dense layer is a
// convolution with windows of one pixel, over an image of one row.
#include "core/errors.h"
#include "fastconv/operations.h"
#include "network/operations/entries.h"

#include <algorithm>

namespace fastconv::network {
namespace {

/// What a step keeps for all shapes.
struct Layer {
    const fastconv::Operation* operation;
    DataType dtype;
    PackedFilters filters;
    Attributes attributes;
    std::vector<bool> given; // for each input of the step: whether it is given
    bool batch_invariant;

    Layer(const Binding& binding, const char* name, const Dims& filter_dims)
        : operation(fastconv::find_operation(name)), dtype(binding.dtype),
          filters(binding.dtype, filter_dims, binding.inputs[1].constant->data, PackedFilters::Memory::borrowed),
          batch_invariant(binding.batch_invariant) {
        attributes.activation = binding.attributes.activation();
        for (const BoundInput& input : binding.inputs) given.push_back(input.given);
    }
};
using LayerPointer = std::shared_ptr<Layer>;

/// The inputs of a step: input, filters, bias, residual.
constexpr std::size_t kBias = 2, kResidual = 3;

double multiply_adds(const ConvProblem& problem) {
    double count = 2;
    for (const std::int64_t size : {problem.n, problem.p, problem.q, problem.k, problem.r, problem.s,
                                    problem.c / std::max<std::int64_t>(1, problem.groups)})
        count *= static_cast<double>(size);
    return count;
}

void read_convolution(const AttributeReader& from, ConvArguments& to) {
    to.strides = from.pair("strides");
    to.padding = from.padding("padding");
    to.dilations = from.pair("dilations");
}

/// The index of a step's bias or residual in the operation table. There, a transposed convolution has one more input
/// before them: the shape of the output.
std::size_t table_input(const Layer& layer, std::size_t input) {
    return input + (layer.operation->inputs[kBias].kind == fastconv::InputKind::optional_sizes ? 1 : 0);
}

/// The call for inputs of these shapes. It is not inferred yet.
std::shared_ptr<Call> call_of(const Layer& layer, const Dims& input, const Shapes& inputs) {
    auto call = std::make_shared<Call>(*layer.operation);
    call->dtype = layer.dtype;
    call->attributes = layer.attributes;
    for (std::size_t i = kBias; i < layer.operation->inputs.size(); ++i) call->inputs[i].given = false;
    call->inputs[0].dims = input;
    call->inputs[1].dims = layer.filters.dims();
    for (std::size_t i = kBias; i < inputs.size(); ++i) {
        Shape& shape = call->inputs[table_input(layer, i)];
        shape.given = layer.given[i];
        shape.dims = inputs[i];
    }
    return call;
}

/// A step that calls an operation in the operation table.
PreparedStep step_of(const LayerPointer& layer, const std::shared_ptr<Call>& call, Direction direction) {
    layer->operation->infer(*call);
    PreparedStep step;
    step.by_image = true;
    if (!layer->batch_invariant)
        step.set_deciding_batch = [call](std::int64_t images) { call->convolution.deciding_batch = images; };
    step.output = call->outputs[0].dims;
    step.operations = multiply_adds(call->convolution);
    step.algorithm = [call, direction] { return explain(call->convolution, direction).algorithm; };
    step.run = [layer, call](const void* const* inputs, void* output) {
        Buffers buffers;
        buffers.inputs[0] = inputs[0];
        for (std::size_t i = kBias; i < layer->given.size(); ++i) buffers.inputs[table_input(*layer, i)] = inputs[i];
        buffers.packed = &layer->filters;
        buffers.outputs[0] = output; // without taps, which only a gradient needs
        call->operation->run(*call, buffers);
    };
    return step;
}

const Dims& filter_dims(const Binding& binding) { return binding.inputs[1].constant->dims; }

LayerPointer make_layer(const Binding& binding, const char* name, ArrayKind kind = ArrayKind::filters) {
    check_array_rank("filters", filter_dims(binding), kind, DataFormat::nhwc);
    auto layer = std::make_shared<Layer>(binding, name, filter_dims(binding));
    read_convolution(binding.attributes, layer->attributes.convolution);
    return layer;
}

Prepare prepare_forward(LayerPointer layer) {
    return [layer = std::move(layer)](const Shapes& inputs) {
        return step_of(layer, call_of(*layer, inputs[0], inputs), Direction::forward);
    };
}

Prepare bind_conv2d(const Binding& binding) { return prepare_forward(make_layer(binding, "conv2d")); }

Prepare bind_depthwise_conv2d(const Binding& binding) {
    const LayerPointer layer = make_layer(binding, "conv2d", ArrayKind::depthwise_filters);
    layer->attributes.convolution.depthwise = true;
    return prepare_forward(layer);
}

Prepare bind_conv2d_max_pool2d(const Binding& binding) {
    const LayerPointer layer = make_layer(binding, "conv2d_max_pool2d");
    const Activation activation = layer->attributes.activation.kind;
    if (activation != Activation::linear && activation != Activation::relu)
        fail("activation must be linear or relu; for other activations, use conv2d and then max_pool2d");
    PoolArguments& pooling = layer->attributes.pooling;
    pooling.ksize = binding.attributes.pair("pool_size");
    pooling.strides = binding.attributes.optional_pair("pool_strides").value_or(pooling.ksize);
    pooling.padding = binding.attributes.padding("pool_padding");
    return prepare_forward(layer);
}

// ---- Transposed convolutions -------------------------------------------------------------------------------------

/// (N, H, W, C) of the output. The table derives the number of groups from the channels of this shape.
Dims transposed_output(const Layer& layer, const Dims& input, std::int64_t groups) {
    const ConvArguments& a = layer.attributes.convolution;
    const Dims& filters = layer.filters.dims();
    const Pair before_and_after[2] = {{a.padding.top, a.padding.bottom}, {a.padding.left, a.padding.right}};
    Dims output{input[0], 0, 0, 0};
    bool overflows = __builtin_mul_overflow(filters[2], groups, &output[3]);
    for (std::size_t axis = 0; axis < 2; ++axis) {
        const std::int64_t more = (*layer.attributes.output_padding)[axis];
        if (more >= a.strides[axis])
            fail("output_padding must be smaller than the strides if groups is more than 1, got ", more);
        std::int64_t size = 0, extent = 0;
        overflows = overflows || __builtin_mul_overflow(input[axis + 1] - 1, a.strides[axis], &size) ||
                    __builtin_mul_overflow(filters[axis] - 1, a.dilations[axis], &extent) ||
                    __builtin_add_overflow(size, extent, &size) || __builtin_add_overflow(size, more + 1, &size);
        for (const std::int64_t pad : before_and_after[axis])
            overflows = overflows || __builtin_sub_overflow(size, pad, &size);
        if (!overflows && size < 0) fail("the output would have ", size, " rows or columns; pad less");
        output[axis + 1] = size;
    }
    if (overflows) fail("the size of the output overflows 64 bits");
    return output;
}

Prepare bind_conv2d_transpose(const Binding& binding) {
    const LayerPointer layer = make_layer(binding, "conv2d_transpose");
    const std::int64_t groups = binding.attributes.integer("groups");
    if (groups < 1) fail("groups must be at least 1, got ", groups);
    if (layer->attributes.convolution.padding.mode == Padding::Mode::same)
        fail("padding must be a list of four integers or \"VALID\", got \"SAME\"");
    layer->attributes.output_padding = binding.attributes.pair_from_zero("output_padding");
    return [layer, groups](const Shapes& inputs) {
        const auto call = call_of(*layer, inputs[0], inputs);
        if (groups > 1) {
            check_array_rank("input", inputs[0], ArrayKind::output, DataFormat::nhwc);
            call->inputs[2].dims = transposed_output(*layer, inputs[0], groups);
            call->inputs[2].given = true;
            call->attributes.output_padding.reset();
        }
        return step_of(layer, call, Direction::input_gradient);
    };
}

// ---- Dense layers ------------------------------------------------------------------------------------------------

/// A tensor as an image of one row: the last axis becomes the channels, and all others become pixels.
Dims as_row(const Dims& dims) { return {1, 1, product(dims, 0, dims.size() - 1), dims.back()}; }

Prepare bind_dense(const Binding& binding) {
    const Dims& matrix = filter_dims(binding);
    if (matrix.size() != 2) fail("filters must have 2 dimensions (C, K), got shape ", show(matrix));
    const auto layer = std::make_shared<Layer>(binding, "conv2d", Dims{1, 1, matrix[0], matrix[1]});
    return [layer, matrix](const Shapes& inputs) {
        Dims output = inputs[0];
        check_rank_at_least("input", output, 1);
        if (output.back() != matrix[0])
            fail("input must have size ", matrix[0], " along its last axis, the number of rows of filters, got shape ",
                 show(output));
        output.back() = matrix[1];
        Shapes as_rows = inputs;
        if (layer->given[kResidual]) {
            check_dims("residual", inputs[kResidual], output, "that of the output");
            as_rows[kResidual] = as_row(output);
        }
        PreparedStep step = step_of(layer, call_of(*layer, as_row(inputs[0]), as_rows), Direction::forward);
        step.output = output;
        step.by_image = output.size() > 1;
        return step;
    };
}

} // namespace

std::vector<Operation> convolution_entries() {
    const InputSpec input{"input"}, filters{"filters", InputKind::constant}, bias{"bias", InputKind::optional_tensor},
        residual{"residual", InputKind::optional_tensor};
    const AttributeSpec strides{"strides", AttributeKind::pair, false, json({1, 1})};
    const AttributeSpec dilations{"dilations", AttributeKind::pair, false, json({1, 1})};
    const AttributeSpec padding{"padding", AttributeKind::padding, false, json("VALID")};
    const std::vector<AttributeSpec> convolution{strides, padding, dilations, activation_spec()};
    std::vector<AttributeSpec> pooled = convolution;
    pooled.push_back(required("pool_size", AttributeKind::pair));
    pooled.push_back({"pool_strides", AttributeKind::optional_pair});
    pooled.push_back({"pool_padding", AttributeKind::padding, false, json("VALID")});
    std::vector<AttributeSpec> transposed = convolution;
    transposed.push_back({"output_padding", AttributeKind::pair, false, json({0, 0})});
    transposed.push_back({"groups", AttributeKind::integer, false, json(std::int64_t{1})});
    return {
        {{"conv2d", {input, filters, bias, residual}, convolution}, bind_conv2d},
        {{"depthwise_conv2d", {input, filters, bias, residual}, convolution}, bind_depthwise_conv2d},
        {{"conv2d_transpose", {input, filters, bias, residual}, transposed}, bind_conv2d_transpose},
        {{"conv2d_max_pool2d", {input, filters, bias}, pooled}, bind_conv2d_max_pool2d},
        {{"dense", {input, filters, bias, residual}, {activation_spec()}}, bind_dense},
    };
}

} // namespace fastconv::network
