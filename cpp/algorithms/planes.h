// Forward passes and input gradients in NCHW, plane by plane, without a conversion to NHWC.
#pragma once

#include "algorithms/algorithm.h"

#include <cstdint>

namespace fastconv {

/// The order in which the algorithm of an NHWC layer adds.
enum class PlaneSums : std::uint8_t { direct, depthwise, other };

/// Plans a forward pass or an input gradient of an NCHW layer on its planes. The request has the NHWC layer. Adds
/// nothing if the conversion to NHWC is better or gives other bits. Otherwise both ways give the same bits, so the
/// choice may depend on anything. `sums` looks at the algorithm that the NHWC layer takes for a correlation.
template <class T>
void plan_planes(const Request& request, PlaneSums (*sums)(const Request&), ConvPlan<T>& plan);

} // namespace fastconv
