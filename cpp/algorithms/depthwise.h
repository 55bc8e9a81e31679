// Depthwise convolution (groups = C) with multiplier 1, in all three directions. It has its own kernels.
#pragma once

#include "algorithms/algorithm.h"

#include <limits>

namespace fastconv {

template <class T>
const Algorithm<T>& depthwise();
/// The input gradient with a stride of 2 columns, all stride residues in one pass. It is not in the list of algorithms,
/// because it does not compute one correlation. It has the same bits as `depthwise` for each residue.
template <class T>
const Algorithm<T>& depthwise_strided_gradient();
template <class T>
const Algorithm<T>& depthwise_filter_gradient();

constexpr const char* kDepthwiseLimits = "one filter for each input channel (as many groups and filters as channels)";
/// Whether a layer is depthwise with multiplier 1. It may also be given with groups: the layout in memory is the same.
inline bool is_depthwise(const ConvProblem& layer) { return layer.groups == layer.c && layer.k == layer.c; }
/// Depthwise kernels read the input least often. But the lanes of their vectors are channels, so for a single channel
/// every other algorithm is faster.
inline double depthwise_cost(const Request& request) {
    return request.layer.groups == 1 ? std::numeric_limits<double>::infinity() : kAlwaysPays;
}

} // namespace fastconv
