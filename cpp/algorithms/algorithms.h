// The choice of an algorithm from the one ordered list of convolution algorithms.
#pragma once

#include "algorithms/algorithm.h"

#include <cstdint>
#include <string_view>

namespace fastconv {

/// Lets the cheapest algorithm that serves the request add to the plan. If costs are equal, takes the first in the
/// list.
template <class T>
void plan_cheapest(const Request& request, ConvPlan<T>& plan);

/// Plans an input gradient: all stride residues in one pass if an algorithm can, or else one after the other.
template <class T>
void plan_input_gradient(const Request& request, ConvPlan<T>& plan);

/// Plans a direction of an NCHW layer, if its planes need not be converted. Otherwise adds nothing. The request has the
/// NHWC layer.
template <class T>
void plan_on_planes(const Request& request, ConvPlan<T>& plan);

/// The family of the algorithm that a direction of a layer takes: "direct", "winograd" or "depthwise".
const char* algorithm_family(const ConvProblem& layer, Direction direction);

/// The index of a name that a caller gave. Throws InvalidArgument if there is no such algorithm.
std::int64_t algorithm_index(std::string_view name);
/// Throws InvalidArgument unless an algorithm of the family that the problem names serves the problem. `filters_name`
/// is the caller's name of the filters, for the message.
void check_named_algorithm(const ConvProblem& problem, const char* filters_name);

} // namespace fastconv
