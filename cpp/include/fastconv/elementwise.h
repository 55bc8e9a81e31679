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

} // namespace fastconv
