#include "algorithms/activation.h"

#include "core/chunks.h"
#include "core/for_type.h"
#include "core/isa.h"
#include "fastconv/elementwise.h"

#include <limits>

namespace fastconv {

void activate_part(const ActivationFunction& activation, DataType dtype, const void* x, const void* residual, void* y,
                   std::int64_t first, std::int64_t count) {
    for_type(dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        FinishRows<T> row{};
        row.x = static_cast<const T*>(x) + first;
        row.y = static_cast<T*>(y) + first;
        row.residual = residual == nullptr ? nullptr : static_cast<const T*>(residual) + first;
        row.rows = row.pixels = 1;
        row.y_step = row.channels = count;
        row.alpha = static_cast<T>(activation.alpha);
        row.beta = static_cast<T>(activation.beta);
        kernels<T>().finish_rows[static_cast<std::size_t>(activation.kind)](row);
    });
}

void activate_in_place(const ActivationFunction& activation, DataType dtype, void* values, std::int64_t first,
                       std::int64_t count) {
    if (activation.kind != Activation::linear) activate_part(activation, dtype, values, nullptr, values, first, count);
}

template <class T>
void multiply_by_derivative(const ActivationFunction& activation, const T* x, const T* grad, T* y, std::int64_t count) {
    kernels<T>().activation_gradient[static_cast<std::size_t>(activation.kind)](
        {x, grad, y, count, static_cast<T>(activation.alpha), static_cast<T>(activation.beta)});
}

bool is_bound(const ActivationFunction& activation) {
    const Activation kind = activation.kind;
    return kind == Activation::linear || kind == Activation::relu || kind == Activation::relu6 ||
           kind == Activation::clip;
}

template <class T>
Bounds<T> bounds_of(const ActivationFunction& activation) {
    constexpr T infinity = std::numeric_limits<T>::infinity();
    if (activation.kind == Activation::linear) return {-infinity, infinity, false};
    if (activation.kind == Activation::relu) return {0, infinity, true};
    return {static_cast<T>(activation.alpha), static_cast<T>(activation.beta), true};
}

template void multiply_by_derivative(const ActivationFunction&, const float*, const float*, float*, std::int64_t);
template void multiply_by_derivative(const ActivationFunction&, const double*, const double*, double*, std::int64_t);
template Bounds<float> bounds_of(const ActivationFunction&);
template Bounds<double> bounds_of(const ActivationFunction&);

// ---- Whole tensors -----------------------------------------------------------------------------------------------

void activate(DataType dtype, const ActivationFunction& activation, std::int64_t count, const void* input,
              void* output) {
    if (input == output && activation.kind == Activation::linear) return;
    add(dtype, activation, count, input, nullptr, output);
}

void add(DataType dtype, const ActivationFunction& activation, std::int64_t count, const void* a, const void* b,
         void* output) {
    for_each_chunk(count, [&](std::int64_t first, std::int64_t some) {
        activate_part(activation, dtype, a, b, output, first, some);
    });
}

void activate_grad(DataType dtype, const ActivationFunction& activation, std::int64_t count, const void* input,
                   const void* grad, void* output) {
    add_grad(dtype, activation, count, input, nullptr, grad, output);
}

void add_grad(DataType dtype, const ActivationFunction& activation, std::int64_t count, const void* a, const void* b,
              const void* grad, void* output) {
    for_type(dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        const T* const gradient = static_cast<const T*>(grad);
        T* const result = static_cast<T*>(output);
        for_each_chunk(count, [&](std::int64_t first, std::int64_t some) {
            T sums[kChunk];
            const T* x = static_cast<const T*>(a) + first;
            if (b != nullptr) {
                kernels<T>().arithmetic[static_cast<std::size_t>(Arithmetic::add)](
                    {x, static_cast<const T*>(b) + first, 0, 0, 1, 1, sums, 1, some});
                x = sums;
            }
            multiply_by_derivative(activation, x, gradient + first, result + first, some);
        });
    });
}

} // namespace fastconv
