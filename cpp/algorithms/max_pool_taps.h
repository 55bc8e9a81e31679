// Checks for all operations that write or read the taps of maxima, one byte per output.
#pragma once

#include "fastconv/pooling.h"

namespace fastconv {

/// Throws InvalidArgument if a window has more than max_pool_taps taps.
void check_taps(const PoolProblem& problem, const char* ksize_name = "ksize");

/// Throws if windows are dilated, adaptive, or reach beyond the padding: a pooling fused with a convolution has none.
void check_plain_pooling(const PoolProblem& problem);

/// Also throws if the input of the pool is not the output of the convolution.
void check_pool_of_output(const ConvProblem& problem, const PoolProblem& pool);

} // namespace fastconv
