// Activations, arithmetic of two tensors, and scales and shifts of channels.
#include "fastconv/elementwise.h"
#include "algorithms/activation.h"
#include "core/chunks.h"
#include "core/errors.h"
#include "core/for_type.h"
#include "core/isa.h"
#include "network/broadcast.h"
#include "network/operations/entries.h"

namespace fastconv::network {
namespace {

// ---- Activations -------------------------------------------------------------------------------------------------

Prepare bind_activate(const Binding& binding) {
    const ActivationFunction activation = binding.attributes.activation();
    return [activation, dtype = binding.dtype](const Shapes& inputs) {
        PreparedStep step;
        step.output = inputs[0];
        step.by_image = true;
        step.may_overwrite = 1;
        const std::int64_t count = element_count(step.output, dtype);
        step.operations = static_cast<double>(count);
        step.run = [=](const void* const* from, void* output) {
            fastconv::activate(dtype, activation, count, from[0], output);
        };
        return step;
    };
}

// ---- Arithmetic --------------------------------------------------------------------------------------------------

template <Arithmetic Which>
Prepare bind_arithmetic(const Binding& binding) {
    const ActivationFunction activation = binding.attributes.activation();
    const bool constants[] = {binding.inputs[0].constant != nullptr, binding.inputs[1].constant != nullptr};
    return [activation, constants, dtype = binding.dtype](const Shapes& inputs) {
        const Broadcast broadcast(inputs[0], inputs[1]);
        PreparedStep step;
        step.output = broadcast.output();
        step.by_image = true;
        for (std::size_t i = 0; i < 2; ++i) // a tensor of fewer dimensions would be broadcast to all images
            if (!constants[i] && inputs[i].size() != step.output.size()) step.by_image = false;
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
                    activate_in_place(activation, dtype, output, part.y, part.rows * part.columns);
                });
            });
        };
        return step;
    };
}

// ---- Scale and shift ---------------------------------------------------------------------------------------------

/// If there are few channels, scale and shift are repeated, so that a row is long enough for vectors.
struct ScaleShift {
    ActivationFunction activation;
    DataType dtype;
    std::int64_t columns;                // of a row
    std::vector<std::byte> scale, shift; // empty if left out

    template <class T>
    void rows(const T* x, T* y, std::int64_t rows, std::int64_t of_columns) const {
        const auto* scales = reinterpret_cast<const T*>(scale.empty() ? nullptr : scale.data());
        const auto* shifts = reinterpret_cast<const T*>(shift.empty() ? nullptr : shift.data());
        kernels<T>().scale_shift(x, scales, shifts, y, rows, of_columns);
    }
};

constexpr std::int64_t kFewChannels = 64;

std::vector<std::byte> repeated(const BoundInput& input, std::int64_t times, DataType dtype) {
    std::vector<std::byte> values;
    if (!input.given) return values;
    const auto* from = static_cast<const std::byte*>(input.constant->data);
    const std::int64_t bytes = element_count(input.constant->dims, dtype) * size_of(dtype);
    for (std::int64_t i = 0; i < times; ++i) values.insert(values.end(), from, from + bytes);
    return values;
}

Run dense_scale_shift(const std::shared_ptr<const ScaleShift>& step, std::int64_t count) {
    return [step, count](const void* const* from, void* output) {
        for_type(step->dtype, [&](auto t) {
            using T = typename decltype(t)::type;
            const T* x = static_cast<const T*>(from[0]);
            T* y = static_cast<T*>(output);
            const std::int64_t columns = step->columns, rows = columns == 0 ? 0 : count / columns;
            for_each_row_block(rows, columns, [&](std::int64_t row, std::int64_t some) {
                step->rows(x + row * columns, y + row * columns, some, columns);
                activate_in_place(step->activation, step->dtype, y, row * columns, some * columns);
            });
            const std::int64_t done = rows * columns;
            if (done == count) return;
            step->rows(x + done, y + done, 1, count - done);
            activate_in_place(step->activation, step->dtype, y, done, count - done);
        });
    };
}

/// Reads rows of channels that start `row` elements apart.
Run scale_shift_of_rows(const std::shared_ptr<const ScaleShift>& step, std::int64_t count, std::int64_t channels,
                        std::int64_t row) {
    return [=](const void* const* from, void* output) {
        for_type(step->dtype, [&](auto t) {
            using T = typename decltype(t)::type;
            const T* x = static_cast<const T*>(from[0]);
            T* y = static_cast<T*>(output);
            for_each_row_block(
                channels == 0 ? 0 : count / channels, channels, [&](std::int64_t first, std::int64_t some) {
                    for (std::int64_t r = first; r < first + some; ++r)
                        step->rows(x + r * row, y + r * channels, 1, channels);
                    activate_in_place(step->activation, step->dtype, y, first * channels, some * channels);
                });
        });
    };
}

Prepare bind_scale_shift(const Binding& binding) {
    std::int64_t channels = -1;
    for (const std::size_t i : {std::size_t{1}, std::size_t{2}}) {
        if (!binding.inputs[i].given) continue;
        const Dims& dims = binding.inputs[i].constant->dims;
        const char* name = i == 1 ? "scale" : "shift";
        if (dims.size() != 1) fail(name, " must have 1 dimension (C), got shape ", show(dims));
        if (channels >= 0) check_dims(name, dims, {channels}, "that of scale");
        channels = dims[0];
    }
    const std::int64_t times = channels > 0 ? std::max<std::int64_t>(1, kFewChannels / channels) : 1;
    const auto bound = std::make_shared<const ScaleShift>(ScaleShift{
        binding.attributes.activation(), binding.dtype, channels < 0 ? kChunk : channels * times,
        repeated(binding.inputs[1], times, binding.dtype), repeated(binding.inputs[2], times, binding.dtype)});
    return [bound, channels](const Shapes& inputs) {
        const Dims& dims = inputs[0];
        check_rank_at_least("input", dims, 1);
        if (channels >= 0 && dims.back() != channels)
            fail("input must have size ", channels, " along its last axis, the size of scale and shift, got shape ",
                 show(dims));
        const std::int64_t count = element_count(dims, bound->dtype), last = dims.back();
        PreparedStep step;
        step.output = dims;
        step.by_image = dims.size() > 1;
        step.may_overwrite = 1;
        step.operations = 2.0 * static_cast<double>(count);
        step.run = dense_scale_shift(bound, count);
        step.reading_rows = [=](std::int64_t row) { return scale_shift_of_rows(bound, count, last, row); };
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
