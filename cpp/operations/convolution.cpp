// The convolution entries of the C++ API: layout, and the choice of the algorithm.
#include "algorithms/depthwise.h"
#include "algorithms/direct.h"
#include "algorithms/plan.h"
#include "algorithms/winograd.h"
#include "core/layout.h"
#include "core/workspace.h"

#include <algorithm>

namespace fastconv {
namespace {

template <class T>
void forward(const ConvProblem& o, const T* input, const T* filters, PackCache* cache, const T* bias, bool relu,
             T* output) {
    const Algorithm algorithm = choose_algorithm<T>(o, Direction::forward);
    if (algorithm == Algorithm::depthwise) return depthwise_forward(o, input, filters, bias, relu, output);
    Gather<T> gather = forward_gather(o, input, filters, bias, relu, output);
    gather.cache = cache;
    if (algorithm == Algorithm::winograd)
        run_winograd(gather);
    else
        run_direct(gather);
}

template <class T>
void input_gradient(const ConvProblem& o, const T* filters, PackCache* cache, const T* dy, T* dx) {
    const Algorithm algorithm = choose_algorithm<T>(o, Direction::input_gradient);
    if (algorithm == Algorithm::depthwise) return depthwise_input_gradient(o, filters, dy, dx);
    for (Gather<T>& gather : input_gradient_gathers(o, filters, dy, dx)) {
        gather.cache = cache;
        if (algorithm == Algorithm::winograd)
            run_winograd(gather);
        else
            run_direct(gather);
    }
}

template <class T>
void filter_gradient(const ConvProblem& o, const T* input, const T* dy, T* dw) {
    switch (choose_algorithm<T>(o, Direction::filter_gradient)) {
    case Algorithm::depthwise:
        return depthwise_filter_gradient(o, input, dy, dw);
    case Algorithm::winograd:
        return winograd_filter_gradient(o, input, dy, dw);
    default:
        return direct_filter_gradient(o, input, dy, dw);
    }
}

/// Calls body(images of this part, offset of its first image) so that the NHWC copies of a part stay small.
template <class Body>
void in_parts(const ConvProblem& o, std::int64_t size, Body&& body) {
    constexpr std::int64_t bytes = 16 << 20;
    const std::int64_t image = (o.h * o.w * o.c + o.p * o.q * o.k) * size;
    const std::int64_t most = std::max<std::int64_t>(1, bytes / std::max<std::int64_t>(1, image));
    for (std::int64_t n = 0; n < o.n; n += most) {
        ConvProblem part = o;
        part.format = DataFormat::nhwc;
        part.n = std::min(most, o.n - n);
        body(part, n);
    }
}

template <class T>
void forward_any_layout(const ConvProblem& o, const void* input_data, const void* filter_data, PackCache* cache,
                        const void* bias_data, bool relu, void* output_data) {
    const auto *input = static_cast<const T*>(input_data), *filters = static_cast<const T*>(filter_data);
    const auto* bias = static_cast<const T*>(bias_data);
    auto* output = static_cast<T*>(output_data);
    if (o.format == DataFormat::nhwc) return forward(o, input, filters, cache, bias, relu, output);
    in_parts(o, sizeof(T), [&](const ConvProblem& part, std::int64_t n) {
        const Scratch<T> x(part.n * o.h * o.w * o.c), y(part.n * o.p * o.q * o.k);
        transpose_images(part.n, o.c, o.h * o.w, input + n * o.h * o.w * o.c, x.get());
        forward(part, x.get(), filters, cache, bias, relu, y.get());
        transpose_images(part.n, o.p * o.q, o.k, y.get(), output + n * o.p * o.q * o.k);
    });
}

template <class T>
void input_gradient_any_layout(const ConvProblem& o, const void* filter_data, PackCache* cache, const void* dy_data,
                               void* dx_data) {
    const auto *filters = static_cast<const T*>(filter_data), *dy = static_cast<const T*>(dy_data);
    auto* dx = static_cast<T*>(dx_data);
    if (o.format == DataFormat::nhwc) return input_gradient(o, filters, cache, dy, dx);
    in_parts(o, sizeof(T), [&](const ConvProblem& part, std::int64_t n) {
        const Scratch<T> x(part.n * o.h * o.w * o.c), y(part.n * o.p * o.q * o.k);
        transpose_images(part.n, o.k, o.p * o.q, dy + n * o.p * o.q * o.k, y.get());
        input_gradient(part, filters, cache, y.get(), x.get());
        transpose_images(part.n, o.h * o.w, o.c, x.get(), dx + n * o.h * o.w * o.c);
    });
}

template <class T>
void filter_gradient_any_layout(const ConvProblem& o, const T* input, const T* dy, T* dw) {
    if (o.n == 0 || o.p == 0 || o.q == 0) {
        std::fill_n(dw, o.r * o.s * (o.c / o.groups) * o.k, T{});
        return;
    }
    if (o.format == DataFormat::nhwc) return filter_gradient(o, input, dy, dw);
    const Scratch<T> x(o.n * o.h * o.w * o.c), y(o.n * o.p * o.q * o.k);
    transpose_images(o.n, o.c, o.h * o.w, input, x.get());
    transpose_images(o.n, o.k, o.p * o.q, dy, y.get());
    ConvProblem nhwc = o;
    nhwc.format = DataFormat::nhwc;
    filter_gradient(nhwc, x.get(), y.get(), dw);
}

} // namespace

void conv2d(const ConvProblem& problem, const void* input, const void* filters, const void* bias, Activation activation,
            void* output) {
    const bool relu = activation == Activation::relu;
    if (problem.dtype == DataType::float32)
        forward_any_layout<float>(problem, input, filters, nullptr, bias, relu, output);
    else
        forward_any_layout<double>(problem, input, filters, nullptr, bias, relu, output);
}

void conv2d(const ConvProblem& problem, const void* input, const PackedFilters& filters, const void* bias,
            Activation activation, void* output) {
    const bool relu = activation == Activation::relu;
    if (problem.dtype == DataType::float32)
        forward_any_layout<float>(problem, input, filters.data(), filters.cache(), bias, relu, output);
    else
        forward_any_layout<double>(problem, input, filters.data(), filters.cache(), bias, relu, output);
}

void conv2d_backprop_input(const ConvProblem& problem, const void* filters, const void* out_backprop,
                           void* input_backprop) {
    if (problem.dtype == DataType::float32)
        input_gradient_any_layout<float>(problem, filters, nullptr, out_backprop, input_backprop);
    else
        input_gradient_any_layout<double>(problem, filters, nullptr, out_backprop, input_backprop);
}

void conv2d_backprop_input(const ConvProblem& problem, const PackedFilters& filters, const void* out_backprop,
                           void* input_backprop) {
    if (problem.dtype == DataType::float32)
        input_gradient_any_layout<float>(problem, filters.data(), filters.cache(), out_backprop, input_backprop);
    else
        input_gradient_any_layout<double>(problem, filters.data(), filters.cache(), out_backprop, input_backprop);
}

void conv2d_backprop_filter(const ConvProblem& problem, const void* input, const void* out_backprop,
                            void* filter_backprop) {
    if (problem.dtype == DataType::float32)
        filter_gradient_any_layout(problem, static_cast<const float*>(input), static_cast<const float*>(out_backprop),
                                   static_cast<float*>(filter_backprop));
    else
        filter_gradient_any_layout(problem, static_cast<const double*>(input), static_cast<const double*>(out_backprop),
                                   static_cast<double*>(filter_backprop));
}

} // namespace fastconv
