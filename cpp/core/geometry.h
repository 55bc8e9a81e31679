// From arguments to fully resolved sizes. Knows no algorithm.
#pragma once

#include "fastconv/convolution.h"

namespace fastconv {

/// Everything of a convolution but its algorithm, validated.
ConvProblem resolve_conv_problem(DataType dtype, const Dims& input, const Dims& filters,
                                 const ConvArguments& arguments);

} // namespace fastconv
