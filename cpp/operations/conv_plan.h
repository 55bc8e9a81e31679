// The plans of convolutions, from the cache.
#pragma once

#include "algorithms/algorithm.h"

#include <memory>

namespace fastconv {

/// The plan of one direction of an NHWC layer, for the current number of threads. `filters_stay` says that the packed
/// filters are kept for later calls. `kept` holds the plan of the caller's last call, and may be null.
template <class T>
std::shared_ptr<const ConvPlan<T>> conv_plan(const ConvProblem& problem, Direction direction, bool filters_stay,
                                             KeptPlan* kept = nullptr);

/// The kinds of plans: the directions of a convolution, and fused operations.
enum class PlanKind : std::uint8_t { forward, input_gradient, filter_gradient, max_pool_fused_backward };

/// Adds what all decisions depend on besides the problem: the kind of plan, the ISA, and the environment's switches.
void add_setting(PlanKey& key, PlanKind kind);
void add_problem(PlanKey& key, const ConvProblem& problem);

} // namespace fastconv
