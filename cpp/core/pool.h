// What the operations share that tell or read a max-pooling's taps.
#pragma once

#include "fastconv/fastconv.h"

namespace fastconv {

/// Throws InvalidArgument for windows of more than max_pool_taps taps.
void check_taps(const PoolProblem& problem);

} // namespace fastconv
