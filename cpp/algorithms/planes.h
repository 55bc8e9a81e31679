// Forward passes and input gradients in NCHW, plane by plane, without a conversion to NHWC.
#pragma once

#include "algorithms/algorithm.h"

#include <cstdint>

namespace fastconv {

/// The order in which the algorithm of an NHWC layer adds.
enum class PlaneSums : std::uint8_t { direct, depthwise, other };

/// Plans a forward pass or an input gradient of an NCHW layer on its planes. The request has the NHWC layer. Adds
/// nothing if the conversion to NHWC is better. `sums` looks at the algorithm that the NHWC layer takes for a
/// correlation.
///
/// Where both ways give the same bits, the choice may depend on anything. That is so for all layers but depthwise ones.
template <class T>
void plan_planes(const Request& request, PlaneSums (*sums)(const Request&), ConvPlan<T>& plan);

} // namespace fastconv
