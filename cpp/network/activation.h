// Activations of values that a step has just written.
#pragma once

#include "fastconv/types.h"

namespace fastconv::network {

/// Overwrites values[first], ..., values[first + count - 1].
void activate(const ActivationFunction& activation, DataType dtype, void* values, std::int64_t first,
              std::int64_t count);

} // namespace fastconv::network
