// Validates arguments and resolves all sizes. Knows no algorithm.
#pragma once

#include "fastconv/convolution.h"

namespace fastconv {

/// Validates and resolves everything but the algorithm.
ConvProblem resolve_conv_problem(DataType dtype, const Dims& input, const Dims& filters,
                                 const ConvArguments& arguments);

} // namespace fastconv
