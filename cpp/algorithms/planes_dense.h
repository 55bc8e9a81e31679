// Dense 1x1 layers in NCHW, forward passes and input gradients, as products of matrices.
#pragma once

#include "algorithms/algorithm.h"

namespace fastconv {

/// Plans the 1x1 layers whose windows lie inside the image and returns true. Adds nothing if the conversion to NHWC is
/// better. Returns false for other layers. The sums must be those of the direct algorithm. request.part is the
/// correlation of the NHWC layer; of an input gradient with strides, it is the first one.
///
/// Both ways give the same bits, so the choice may depend on anything.
template <class T>
bool plan_dense_planes(const Request& request, ConvPlan<T>& plan);

} // namespace fastconv
