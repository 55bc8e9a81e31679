// What the operations share that tell or read a max-pooling's taps, alone or behind a convolution.
#pragma once

#include "fastconv/pooling.h"

namespace fastconv {

/// Throws InvalidArgument for windows of more than max_pool_taps taps.
void check_taps(const PoolProblem& problem);

/// And unless the max-pooling takes what the convolution gives.
void check_behind(const ConvProblem& problem, const PoolProblem& pool);

} // namespace fastconv
