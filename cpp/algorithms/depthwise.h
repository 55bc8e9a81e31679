// Depthwise convolution (groups = C) with multiplier 1, in all three directions. It has its own kernels.
#pragma once

#include "algorithms/algorithm.h"

namespace fastconv {

template <class T>
const Algorithm<T>& depthwise();
template <class T>
const Algorithm<T>& depthwise_filter_gradient();

constexpr const char* kDepthwiseLimits = "one filter for each input channel (as many groups and filters as channels)";
/// Whether a layer is depthwise, also if it is given with groups: its memory is the same.
inline bool is_depthwise(const ConvProblem& layer) { return layer.groups == layer.c && layer.k == layer.c; }

} // namespace fastconv
