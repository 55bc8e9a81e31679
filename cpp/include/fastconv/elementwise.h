// What is computed element by element or summed over pixels, beside convolutions.
#pragma once

#include "fastconv/types.h"

namespace fastconv {

/// The gradient of a convolution's bias: the sums of out_backprop, of shape `dims`, over all but its channels. With
/// `output`, the result of a fused ReLU: `masked` becomes out_backprop where output > 0, else 0, and is what is summed;
/// it may be out_backprop itself. Both, or bias_backprop, may be null.
FASTCONV_API void bias_gradient(DataType dtype, DataFormat format, const Dims& dims, const void* out_backprop,
                                const void* output, void* masked, void* bias_backprop);

} // namespace fastconv
