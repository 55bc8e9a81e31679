// Pooling. The operations in the operation table (operations/table.cpp) compute it.
#include "core/errors.h"
#include "fastconv/operations.h"
#include "network/operations/entries.h"

namespace fastconv::network {
namespace {

/// A step for pooling windows of any kind.
Prepare prepare_pooling(const char* name, const Attributes& attributes, DataType dtype) {
    const fastconv::Operation* operation = fastconv::find_operation(name);
    return [operation, attributes, dtype](const Shapes& inputs) {
        auto call = std::make_shared<Call>(*operation);
        call->dtype = dtype;
        call->attributes = attributes;
        call->inputs[0].dims = inputs[0];
        operation->infer(*call);
        PreparedStep step;
        step.output = call->outputs[0].dims;
        step.by_image = true;
        step.operations = static_cast<double>(element_count(step.output, dtype)) *
                          static_cast<double>(call->pooling.r) * static_cast<double>(call->pooling.s);
        step.run = [call](const void* const* from, void* output) {
            Buffers buffers;
            buffers.inputs[0] = from[0];
            buffers.outputs[0] = output;
            call->operation->run(*call, buffers);
        };
        return step;
    };
}

template <bool Maximum>
Prepare bind_pooling(const Binding& binding) {
    const AttributeReader& from = binding.attributes;
    Attributes attributes;
    PoolArguments& pooling = attributes.pooling;
    pooling.ksize = from.pair("ksize");
    pooling.strides = from.optional_pair("strides").value_or(pooling.ksize);
    pooling.padding = from.padding("padding");
    pooling.dilations = from.pair("dilations");
    pooling.ceil_mode = from.boolean("ceil_mode");
    if (!Maximum) pooling.count_include_pad = from.boolean("count_include_pad");
    return prepare_pooling(Maximum ? "max_pool2d" : "avg_pool2d", attributes, binding.dtype);
}

template <bool Maximum>
Prepare bind_adaptive_pooling(const Binding& binding) {
    Attributes attributes;
    attributes.pooling.adaptive = true;
    attributes.pooling.output_size = binding.attributes.pair("output_size");
    return prepare_pooling(Maximum ? "max_pool2d" : "avg_pool2d", attributes, binding.dtype);
}

} // namespace

std::vector<Operation> pooling_entries() {
    const std::vector<InputSpec> input{{"input"}};
    const std::vector<AttributeSpec> maximum{required("ksize", AttributeKind::pair),
                                             {"strides", AttributeKind::optional_pair},
                                             {"padding", AttributeKind::padding, false, json("VALID")},
                                             {"dilations", AttributeKind::pair, false, json({1, 1})},
                                             {"ceil_mode", AttributeKind::boolean, false, json(false)}};
    std::vector<AttributeSpec> average = maximum;
    average.push_back({"count_include_pad", AttributeKind::boolean, false, json(false)});
    const std::vector<AttributeSpec> adaptive{required("output_size", AttributeKind::pair)};
    return {
        {{"max_pool2d", input, maximum}, bind_pooling<true>},
        {{"avg_pool2d", input, average}, bind_pooling<false>},
        {{"adaptive_max_pool2d", input, adaptive}, bind_adaptive_pooling<true>},
        {{"adaptive_avg_pool2d", input, adaptive}, bind_adaptive_pooling<false>},
    };
}

} // namespace fastconv::network
