// Validates arguments and resolves all sizes. Does not depend on the algorithms.
#pragma once

#include "fastconv/convolution.h"

namespace fastconv {

/// Validates and resolves everything but the algorithm.
ConvProblem resolve_conv_problem(DataType dtype, const Dims& input, const Dims& filters,
                                 const ConvArguments& arguments);

/// Throws if a tensor has 2^63 bytes or more, so that every index inside it fits in 64 bits. As in NumPy, dimensions of
/// size 0 are left out of the product, so the other dimensions of an empty tensor are checked, too.
void check_size(const char* name, const Dims& dims, DataType dtype, const char* remedy);

} // namespace fastconv
