// Validates arguments and resolves all sizes. Does not depend on the algorithms.
#pragma once

#include "fastconv/convolution.h"

namespace fastconv {

/// Validates and resolves everything but the algorithm.
ConvProblem resolve_conv_problem(DataType dtype, const Dims& input, const Dims& filters,
                                 const ConvArguments& arguments);

} // namespace fastconv
