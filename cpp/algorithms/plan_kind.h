// What the keys of all cached plans begin with.
#pragma once

#include "core/environment.h"
#include "core/isa.h"
#include "core/plan_cache.h"

#include <cstdint>

namespace fastconv {

/// The kinds of plans: the directions of a convolution, fused operations, and pools.
enum class PlanKind : std::uint8_t {
    forward,
    input_gradient,
    filter_gradient,
    max_pool_fused_backward,
    separable_max_pool,
    separable_avg_pool
};

/// Adds what all decisions depend on besides the problem: the kind of plan, the ISA, and the environment's switches.
inline void add_setting(PlanKey& key, PlanKind kind) {
    key.add(kind, reinterpret_cast<std::intptr_t>(&kernel_table()), environment_switches());
}

} // namespace fastconv
