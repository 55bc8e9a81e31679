// Max and average pooling with their gradients, and a convolution fused with the max pooling of its output.
#pragma once

#include "fastconv/convolution.h"

#include <cstdint>

namespace fastconv {

constexpr std::int64_t kept_size = -1; // as an output size of an adaptive pooling: the same size as the input

struct PoolArguments {
    Pair ksize{1, 1};
    Pair strides{1, 1};
    Padding padding;
    DataFormat format = DataFormat::nhwc;
    Pair dilations{1, 1};
    /// Rounds the output's size up. The last window may reach beyond the padding, but it must start inside the input or
    /// the padding before it.
    bool ceil_mode = false;
    /// Average pooling: whether the mean counts padded pixels, as zeros. It never counts pixels beyond the padding.
    bool count_include_pad = false;
    /// Adaptive pooling: window i of P covers rows floor(i*H/P) to ceil((i+1)*H/P) - 1. Only `format` and `output_size`
    /// are then used.
    bool adaptive = false;
    Pair output_size{kept_size, kept_size};
    // For error messages: the caller's names of the arguments, and of the output.
    const char* input_name = "input";
    const char* ksize_name = "ksize";
    const char* strides_name = "strides";
    const char* padding_name = "padding";
    const char* output_name = "the output";
};

struct PoolProblem {
    DataType dtype = DataType::float32;
    DataFormat format = DataFormat::nhwc;
    std::int64_t n = 0, h = 0, w = 0, c = 0, r = 0, s = 0, p = 0, q = 0; // window (R,S), output (N,P,Q,C)
    std::int64_t stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
    std::int64_t pad_top = 0, pad_bottom = 0, pad_left = 0, pad_right = 0;
    bool count_include_pad = false;
    /// Whether windows differ in size or distance. (R,S) is then at least as large as any window, and the strides are
    /// not used.
    bool adaptive = false;

    FASTCONV_API Dims input_dims() const;
    FASTCONV_API Dims output_dims() const;
};

FASTCONV_API PoolProblem make_pool_problem(DataType dtype, const Dims& input, const PoolArguments& arguments);
/// One size of the output, from the input's size along this axis.
FASTCONV_API std::int64_t pool_output_size(std::int64_t size, const PoolArguments& arguments, bool height_axis);

/// `argmax` may be null. Otherwise it receives one int64 per output, laid out as the output: (y*W + x)*C + c of the
/// maximum, or ((n*H + y)*W + x)*C + c with `include_batch`.
FASTCONV_API void max_pool2d(const PoolProblem& problem, const void* input, void* output, std::int64_t* argmax,
                             bool include_batch);
FASTCONV_API void max_pool2d_grad(const PoolProblem& problem, const void* input, const void* grad, void* input_grad);

constexpr std::int64_t max_pool_taps = 255;
/// For training: also writes the tap of each maximum to `taps`, one byte per output, always in NHWC order. Taps are
/// counted from 0, and only those inside the input count. max_pool2d_scatter computes the gradient from these taps
/// without reading the input again. max_pool2d_gather is the transpose of max_pool2d_scatter. A byte that is not the
/// number of a tap means "no maximum". All functions with taps take windows of at most max_pool_taps taps.
FASTCONV_API void max_pool2d_with_taps(const PoolProblem& problem, const void* input, void* output, std::uint8_t* taps);
FASTCONV_API void max_pool2d_scatter(const PoolProblem& problem, const std::uint8_t* taps, const void* grad,
                                     void* input_grad);
FASTCONV_API void max_pool2d_gather(const PoolProblem& problem, const std::uint8_t* taps, const void* values,
                                    void* output);
/// Throws unless each byte is the number of a tap of its window.
FASTCONV_API void check_tap_numbers(const char* name, const PoolProblem& problem, const std::uint8_t* taps);

FASTCONV_API void avg_pool2d(const PoolProblem& problem, const void* input, void* output);
FASTCONV_API void avg_pool2d_grad(const PoolProblem& problem, const void* grad, void* input_grad);

/// Computes conv2d and then max_pool2d_with_taps of its output, a few images at a time. `taps` may be null.
FASTCONV_API void conv2d_max_pool2d(const ConvProblem& problem, const PoolProblem& pool, const void* input,
                                    const PackedFilters& filters, const void* bias, Activation activation, void* output,
                                    std::uint8_t* taps);
/// Whether the layer is small enough for conv2d_max_pool2d_backprop to fuse its operations. The batch size does not
/// matter.
FASTCONV_API bool conv2d_max_pool2d_backprop_serves(const ConvProblem& problem);
/// The gradients of a convolution whose only consumer is the max-pooling `pool`. Computes the results of
/// max_pool2d_scatter, conv2d_backprop_input (unless input_backprop is null), conv2d_backprop_filter and bias_gradient.
/// If the convolution has a ReLU, `output` is the pooled output, and `grad` counts only where `output` is positive.
/// Otherwise, `output` is null. Every byte of `taps` must be the number of a tap. For small layers, the gradient of the
/// convolution's output is never in memory as a whole.
FASTCONV_API void conv2d_max_pool2d_backprop(const ConvProblem& problem, const PoolProblem& pool, const void* input,
                                             const void* filters, const std::uint8_t* taps, const void* grad,
                                             const void* output, void* input_backprop, void* filter_backprop,
                                             void* bias_backprop);

} // namespace fastconv
