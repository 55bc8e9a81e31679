// Pooling with large windows: first along the rows of the input, then along its columns.
#pragma once

#include "fastconv/pooling.h"

#include <cstdint>

namespace fastconv {

enum class PoolKind : std::uint8_t { max, average };

/// Computes the output, in the problem's data format, if this is faster than reading every tap of every window.
/// Otherwise returns false. The choice follows from the layer and the ISA alone, because the two forms of a mean round
/// differently.
template <class T>
bool separable_pool(const PoolProblem& problem, PoolKind kind, const T* input, T* output);

} // namespace fastconv
