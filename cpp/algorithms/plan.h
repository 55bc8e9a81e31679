// The planner: which algorithm serves a problem. It looks at the layer and the ISA, never at the batch size, so that an
// image's result does not depend on its neighbours.
#pragma once

#include "fastconv/convolution.h"

namespace fastconv {

/// auto_choice resolved: direct, depthwise or winograd.
template <class T>
Algorithm choose_algorithm(const ConvProblem& problem, Direction direction);

} // namespace fastconv
