// The one ordered list of convolution algorithms, and what is asked of it.
#pragma once

#include "algorithms/algorithm.h"

#include <cstdint>
#include <string_view>

namespace fastconv {

/// Takes the cheapest algorithm that serves, of equal ones the first of the list, and lets it add to the plan.
template <class T>
void plan_cheapest(const Request& request, ConvPlan<T>& plan);

/// The family of the algorithm that a direction of a layer takes: "direct", "winograd" or "depthwise".
const char* algorithm_family(const ConvProblem& layer, Direction direction);

/// The index of a name that a caller gave; throws InvalidArgument if there is no such algorithm.
std::int64_t algorithm_index(std::string_view name);
/// Throws InvalidArgument unless an algorithm of the family that the problem names serves it. `filters_name` is what
/// the caller calls the filters.
void check_named_algorithm(const ConvProblem& problem, const char* filters_name);

} // namespace fastconv
