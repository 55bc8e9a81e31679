// The plans of convolutions, from the cache.
#pragma once

#include "algorithms/algorithm.h"
#include "algorithms/plan_kind.h"

#include <memory>

namespace fastconv {

/// The plan of one direction of a layer, for the current number of threads. The plan of an NCHW layer is empty if its
/// images must be converted to NHWC. `filters_stay` says that the packed
/// filters are kept for later calls. `kept` holds the plan of the caller's last call, and may be null.
template <class T>
std::shared_ptr<const ConvPlan<T>> conv_plan(const ConvProblem& problem, Direction direction, bool filters_stay,
                                             KeptPlan* kept = nullptr);

void add_problem(PlanKey& key, const ConvProblem& problem);

} // namespace fastconv
