// Filter gradients of NCHW layers on their planes, without a conversion to NHWC. Each function plans a request with the
// NHWC layer. It adds nothing if the conversion is better.
#pragma once

#include "algorithms/algorithm.h"

namespace fastconv {

/// For layers whose NHWC form takes the direct filter gradient. The bits are those of NHWC.
template <class T>
void plan_direct_gradient_on_planes(const Request& request, ConvPlan<T>& plan);

/// For depthwise layers. The choice follows from the layer and the ISA alone, because the sums add in another order.
template <class T>
void plan_depthwise_gradient_on_planes(const Request& request, ConvPlan<T>& plan);

} // namespace fastconv
