// Forward passes and input gradients in NCHW, plane by plane, without a conversion to NHWC.
#pragma once

#include "algorithms/algorithm.h"

namespace fastconv {

/// Plans the forward pass or the input gradient of an NCHW layer on its planes. request.part is the correlation of the
/// NHWC layer, which takes `depthwise` or one of the direct algorithms. Adds nothing if the conversion to NHWC is
/// better, and for input gradients with strides.
///
/// Where both ways give the same bits, the choice may depend on anything. That is so for all layers but depthwise ones.
template <class T>
void plan_planes(const Request& request, bool depthwise, ConvPlan<T>& plan);

} // namespace fastconv
