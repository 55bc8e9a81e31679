// Checks for all operations that write or read the taps of maxima, one byte per output.
#pragma once

#include "fastconv/pooling.h"

namespace fastconv {

/// Throws InvalidArgument if a window has more than max_pool_taps taps.
void check_taps(const PoolProblem& problem, const char* ksize_name = "ksize");

/// Throws if windows are dilated, are adaptive, or reach beyond the padding. Such a pooling cannot be fused with a
/// convolution.
void check_plain_pooling(const PoolProblem& problem);

/// Does both checks, and also throws if the input of the pooling is not the output of the convolution.
void check_pool_of_output(const ConvProblem& problem, const PoolProblem& pool);

} // namespace fastconv
