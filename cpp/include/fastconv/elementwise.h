// The gradient of a bias, and the mask of a fused ReLU.
#pragma once

#include "fastconv/types.h"

namespace fastconv {

/// The gradient of a convolution's bias: the sum of out_backprop, of shape `dims`, over all axes but the channels.
///
/// If `output` is not null, it is the result of a fused ReLU. The function then fills `masked` with out_backprop where
/// output > 0 and with 0 elsewhere, and sums `masked` instead of out_backprop. `masked` may be out_backprop itself.
/// `output` and `masked` are both given or both null. bias_backprop may be null.
FASTCONV_API void bias_gradient(DataType dtype, DataFormat format, const Dims& dims, const void* out_backprop,
                                const void* output, void* masked, void* bias_backprop);

/// output = activation(input), for `count` values. The output may be the input.
FASTCONV_API void activate(DataType dtype, const ActivationFunction& activation, std::int64_t count, const void* input,
                           void* output);
/// output = grad times the activation's derivative at the input. Linear, relu, relu6 and clip have the same derivative
/// at their output, which may take the place of the input. The output may be the input or grad.
FASTCONV_API void activate_grad(DataType dtype, const ActivationFunction& activation, std::int64_t count,
                                const void* input, const void* grad, void* output);

/// output = activation(a + b). The output may be a or b.
FASTCONV_API void add(DataType dtype, const ActivationFunction& activation, std::int64_t count, const void* a,
                      const void* b, void* output);
/// output = grad times the activation's derivative at a + b. The output may be a, b or grad.
FASTCONV_API void add_grad(DataType dtype, const ActivationFunction& activation, std::int64_t count, const void* a,
                           const void* b, const void* grad, void* output);

} // namespace fastconv
