// Convolutions and dense layers, by the convolutions of the table of operations (fastconv/operations.h).
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
    ActivationCall activation;

    Layer(const Binding& binding, const char* name, const Dims& filter_dims)
        : operation(fastconv::find_operation(name)), dtype(binding.dtype),
          filters(binding.dtype, filter_dims, binding.inputs[1].constant->data, PackedFilters::Memory::borrowed),
          activation(binding.attributes.activation()) {}
};
using LayerPointer = std::shared_ptr<const Layer>;

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

/// A step that runs a call of the table. The activations that the call lacks are applied after it.
PreparedStep step_of(const LayerPointer& layer, std::shared_ptr<Call> call) {
    layer->operation->infer(*call);
    PreparedStep step;
    step.output = call->outputs[0].dims;
    step.operations = multiply_adds(call->convolution);
    step.algorithm = [call] { return explain(call->convolution, Direction::forward).algorithm; };
    const std::int64_t count = element_count(step.output, layer->dtype);
    step.run = [layer, call = std::move(call), count](const void* const* inputs, void* output) {
        Buffers buffers;
        buffers.inputs[0] = inputs[0];
        buffers.inputs[2] = inputs[2];
        buffers.packed = &layer->filters;
        buffers.outputs[0] = output;
        call->operation->run(*call, buffers);
        if (call->attributes.activation == Activation::linear)
            activate_all(layer->activation, layer->dtype, output, count);
    };
    return step;
}

std::shared_ptr<Call> call_of(const Layer& layer, const Dims& input, const Dims& bias) {
    auto call = std::make_shared<Call>(*layer.operation);
    call->dtype = layer.dtype;
    call->attributes = layer.attributes;
    call->inputs[0].dims = input;
    call->inputs[1].dims = layer.filters.dims();
    call->inputs[2].dims = bias;
    return call;
}

std::shared_ptr<Layer> make_layer(const Binding& binding, const char* name, const Dims& filter_dims) {
    auto layer = std::make_shared<Layer>(binding, name, filter_dims);
    if (layer->activation.kind == ActivationKind::relu) layer->attributes.activation = Activation::relu;
    return layer;
}

const Dims& filter_dims(const Binding& binding) { return binding.inputs[1].constant->dims; }

template <bool Depthwise>
Prepare bind_convolution(const Binding& binding) {
    check_array_rank("filters", filter_dims(binding), Depthwise ? ArrayKind::depthwise_filters : ArrayKind::filters,
                     DataFormat::nhwc);
    const auto layer = make_layer(binding, "conv2d", filter_dims(binding));
    read_convolution(binding.attributes, layer->attributes.convolution);
    layer->attributes.convolution.depthwise = Depthwise;
    if (binding.inputs[3].given) fail("residual is not supported yet");
    const bool biased = binding.inputs[2].given;
    return [layer = LayerPointer(layer), biased](const Shapes& inputs) {
        auto call = call_of(*layer, inputs[0], inputs[2]);
        call->inputs[2].given = biased;
        return step_of(layer, std::move(call));
    };
}

Prepare bind_dense(const Binding& binding) {
    const Dims& matrix = filter_dims(binding);
    if (matrix.size() != 2) fail("filters must have 2 dimensions (C, K), got shape ", show(matrix));
    const auto layer = make_layer(binding, "conv2d", {1, 1, matrix[0], matrix[1]});
    if (binding.inputs[3].given) fail("residual is not supported yet");
    const bool biased = binding.inputs[2].given;
    return [layer = LayerPointer(layer), biased](const Shapes& inputs) {
        Dims output = inputs[0];
        check_rank_at_least("input", output, 1);
        if (output.back() != layer->filters.dims()[2])
            fail("input must have ", layer->filters.dims()[2],
                 " values along its last axis, as many as filters has rows, got shape ", show(output));
        auto call = call_of(*layer, {1, 1, product(output, 0, output.size() - 1), output.back()}, inputs[2]);
        call->inputs[2].given = biased;
        output.back() = layer->filters.dims()[3];
        PreparedStep step = step_of(layer, std::move(call));
        step.output = output;
        return step;
    };
}

Prepare bind_conv2d_max_pool2d(const Binding& binding) {
    check_array_rank("filters", filter_dims(binding), ArrayKind::filters, DataFormat::nhwc);
    const auto layer = make_layer(binding, "conv2d_max_pool2d", filter_dims(binding));
    if (layer->activation.kind != ActivationKind::linear && layer->activation.kind != ActivationKind::relu)
        fail("activation must be linear or relu; another one needs conv2d and max_pool2d in two steps");
    read_convolution(binding.attributes, layer->attributes.convolution);
    PoolArguments& pooling = layer->attributes.pooling;
    pooling.ksize = binding.attributes.pair("pool_size");
    pooling.strides = binding.attributes.optional_pair("pool_strides").value_or(pooling.ksize);
    pooling.padding = binding.attributes.padding("pool_padding");
    const bool biased = binding.inputs[2].given;
    return [layer = LayerPointer(layer), biased](const Shapes& inputs) {
        auto call = call_of(*layer, inputs[0], inputs[2]);
        call->inputs[2].given = biased;
        return step_of(layer, std::move(call)); // without taps, which only a gradient needs
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
    return {
        {{"conv2d", {input, filters, bias, residual}, convolution}, bind_convolution<false>},
        {{"depthwise_conv2d", {input, filters, bias, residual}, convolution}, bind_convolution<true>},
        {{"conv2d_max_pool2d", {input, filters, bias}, pooled}, bind_conv2d_max_pool2d},
        {{"dense", {input, filters, bias, residual}, {activation_spec()}}, bind_dense},
    };
}

} // namespace fastconv::network
