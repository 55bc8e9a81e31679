// The plans of convolutions, from the cache.
#pragma once

#include "algorithms/algorithm.h"

#include <memory>

namespace fastconv {

/// The plan of one direction of an NHWC layer, for the threads of now. `kept` (may be null) holds the caller's last.
template <class T>
std::shared_ptr<const ConvPlan<T>> conv_plan(const ConvProblem& problem, Direction direction, bool filters_stay,
                                             KeptPlan* kept = nullptr);

/// What decisions about a layer depend on.
void add_problem(PlanKey& key, const ConvProblem& problem);

} // namespace fastconv
