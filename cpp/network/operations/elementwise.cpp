// Activations, arithmetic of two tensors, and scales and shifts of channels.
#include "core/errors.h"
#include "core/for_type.h"
#include "core/isa.h"
#include "network/broadcast.h"
#include "network/chunks.h"
#include "network/operations/entries.h"

#include <cstring>

namespace fastconv::network {
namespace {

// ---- Activations -------------------------------------------------------------------------------------------------

Prepare bind_activate(const Binding& binding) {
    const ActivationCall activation = binding.attributes.activation();
    return [activation, dtype = binding.dtype](const Shapes& inputs) {
        PreparedStep step;
        step.output = inputs[0];
        step.may_overwrite = 1;
        const std::int64_t count = element_count(step.output, dtype), size = size_of(dtype);
        step.operations = static_cast<double>(count);
        step.run = [=](const void* const* from, void* output) {
            for_each_chunk(count, [&](std::int64_t first, std::int64_t some) {
                if (from[0] != output)
                    std::memcpy(static_cast<std::byte*>(output) + first * size,
                                static_cast<const std::byte*>(from[0]) + first * size,
                                static_cast<std::size_t>(some * size));
                activate(activation, dtype, output, first, some);
            });
        };
        return step;
    };
}

// ---- Arithmetic --------------------------------------------------------------------------------------------------

template <Arithmetic Which>
Prepare bind_arithmetic(const Binding& binding) {
    const ActivationCall activation = binding.attributes.activation();
    return [activation, dtype = binding.dtype](const Shapes& inputs) {
        const Broadcast broadcast(inputs[0], inputs[1]);
        PreparedStep step;
        step.output = broadcast.output();
        step.operations = static_cast<double>(element_count(step.output, dtype));
        step.may_overwrite = (inputs[0] == step.output ? 1u : 0u) | (inputs[1] == step.output ? 2u : 0u);
        step.run = [=](const void* const* from, void* output) {
            for_type(dtype, [&](auto t) {
                using T = typename decltype(t)::type;
                const auto kernel = kernels<T>().arithmetic[static_cast<std::size_t>(Which)];
                broadcast.each_part([&](const Broadcast::Part& part) {
                    kernel({static_cast<const T*>(from[0]) + part.a, static_cast<const T*>(from[1]) + part.b,
                            part.a_row, part.b_row, part.a_step, part.b_step, static_cast<T*>(output) + part.y,
                            part.rows, part.columns});
                    activate(activation, dtype, output, part.y, part.rows * part.columns);
                });
            });
        };
        return step;
    };
}

// ---- Scale and shift ---------------------------------------------------------------------------------------------

Prepare bind_scale_shift(const Binding& binding) {
    const ActivationCall activation = binding.attributes.activation();
    std::int64_t channels = -1;
    for (const std::size_t i : {std::size_t{1}, std::size_t{2}}) {
        if (!binding.inputs[i].given) continue;
        const Dims& dims = binding.inputs[i].constant->dims;
        const char* name = i == 1 ? "scale" : "shift";
        if (dims.size() != 1) fail(name, " must have 1 dimension (C), got shape ", show(dims));
        if (channels >= 0) check_dims(name, dims, {channels}, "as many values as scale");
        channels = dims[0];
    }
    return [activation, channels, dtype = binding.dtype](const Shapes& inputs) {
        const Dims& dims = inputs[0];
        check_rank_at_least("input", dims, 1);
        if (channels >= 0 && dims.back() != channels)
            fail("input must have ", channels, " channels along its last axis, as many as scale and shift, got shape ",
                 show(dims));
        const std::int64_t count = element_count(dims, dtype), columns = dims.back();
        PreparedStep step;
        step.output = dims;
        step.may_overwrite = 1;
        step.operations = 2.0 * static_cast<double>(count);
        step.run = [=](const void* const* from, void* output) {
            if (count == 0) return;
            for_type(dtype, [&](auto t) {
                using T = typename decltype(t)::type;
                const T *x = static_cast<const T*>(from[0]), *scale = static_cast<const T*>(from[1]),
                        *shift = static_cast<const T*>(from[2]);
                for_each_row_block(count / columns, columns, [&](std::int64_t row, std::int64_t rows) {
                    kernels<T>().scale_shift(x + row * columns, scale, shift, static_cast<T*>(output) + row * columns,
                                             rows, columns);
                    activate(activation, dtype, output, row * columns, rows * columns);
                });
            });
        };
        return step;
    };
}

} // namespace

std::vector<Operation> elementwise_entries() {
    const std::vector<InputSpec> two{{"a"}, {"b"}};
    const std::vector<AttributeSpec> activation{activation_spec()};
    AttributeSpec required_activation = activation_spec();
    required_activation.required = true;
    return {
        {{"activate", {{"input"}}, {required_activation}}, bind_activate},
        {{"add", two, activation}, bind_arithmetic<Arithmetic::add>},
        {{"subtract", two, activation}, bind_arithmetic<Arithmetic::subtract>},
        {{"multiply", two, activation}, bind_arithmetic<Arithmetic::multiply>},
        {{"divide", two, activation}, bind_arithmetic<Arithmetic::divide>},
        {{"maximum", two, activation}, bind_arithmetic<Arithmetic::maximum>},
        {{"minimum", two, activation}, bind_arithmetic<Arithmetic::minimum>},
        {{"scale_shift",
          {{"input"}, {"scale", InputKind::optional_constant}, {"shift", InputKind::optional_constant}},
          activation},
         bind_scale_shift},
    };
}

} // namespace fastconv::network
