// Pooling, by the operations of the table (fastconv/operations.h).
#include "core/errors.h"
#include "fastconv/operations.h"
#include "network/operations/entries.h"

namespace fastconv::network {
namespace {

template <bool Maximum>
Prepare bind_pooling(const Binding& binding) {
    const fastconv::Operation* operation = fastconv::find_operation(Maximum ? "max_pool2d" : "avg_pool2d");
    const AttributeReader& from = binding.attributes;
    Attributes attributes;
    attributes.pooling.ksize = from.pair("ksize");
    attributes.pooling.strides = from.optional_pair("strides").value_or(attributes.pooling.ksize);
    attributes.pooling.padding = from.padding("padding");
    return [operation, attributes, dtype = binding.dtype](const Shapes& inputs) {
        auto call = std::make_shared<Call>(*operation);
        call->dtype = dtype;
        call->attributes = attributes;
        call->inputs[0].dims = inputs[0];
        operation->infer(*call);
        PreparedStep step;
        step.output = call->outputs[0].dims;
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

} // namespace

std::vector<Operation> pooling_entries() {
    const std::vector<InputSpec> input{{"input"}};
    const std::vector<AttributeSpec> windows{required("ksize", AttributeKind::pair),
                                             {"strides", AttributeKind::optional_pair},
                                             {"padding", AttributeKind::padding, false, json("VALID")}};
    return {
        {{"max_pool2d", input, windows}, bind_pooling<true>},
        {{"avg_pool2d", input, windows}, bind_pooling<false>},
    };
}

} // namespace fastconv::network
