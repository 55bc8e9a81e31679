// Winograd's algorithm for dense 3x3 and 5x5 windows of stride 1, in all three directions.
//
// A NaN or infinity, given or made by the transforms, spreads over its whole tile. What comes out not finite is
// therefore computed again by the direct algorithm (Request::again).
#pragma once

#include "algorithms/algorithm.h"

namespace fastconv {

template <class T>
const Algorithm<T>& winograd();
template <class T>
const Algorithm<T>& winograd_filter_gradient();

constexpr const char* kWinogradLimits =
    "3x3 and 5x5 filters with strides 1, dilations 1, one group and at most some 1000 channels";
/// Whether the algorithm can compute a layer at all: the window, and scratch memory within bounds.
template <class T>
bool winograd_serves(const ConvProblem& layer);
/// Products per output pixel for one channel and one vector of filters. Infinity where the algorithm does not pay, or
/// FASTCONV_WINOGRAD=0 switches it off.
template <class T>
double winograd_cost(const ConvProblem& layer);

} // namespace fastconv
