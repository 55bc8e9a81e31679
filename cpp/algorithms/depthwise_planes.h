// Depthwise convolution of NCHW planes with kernels of its own.
#pragma once

#include "algorithms/algorithm.h"

namespace fastconv {

/// Plans the forward pass or the input gradient of a depthwise layer on its planes, for windows of 3x3 or 5x5 with
/// strides of 1 or 2. Adds nothing for other layers. The request has the NHWC layer, which takes `depthwise`.
///
/// The choice follows from the layer alone: each sum adds the taps row after row. So does NHWC, unless the channels are
/// few and depthwise.cpp repeats their filters.
template <class T>
void plan_depthwise_planes(const Request& request, ConvPlan<T>& plan);

} // namespace fastconv
