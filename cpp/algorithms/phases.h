// The phases of a plan, for counting: parallel loops, and what the calling thread does between them. They run one after
// the other. The loops of a run take their tasks from the same functions of the decisions.
#pragma once

#include "core/partial_sums.h"
#include "core/threads/parallel_for.h"
#include "fastconv/convolution.h"

#include <cstddef>
#include <utility>

namespace fastconv {

/// The phase of a parallel loop. cost(task) is the TaskCost of each task.
template <class Cost>
Phase phase_of(const char* name, const Tasks& tasks, Cost&& cost) {
    Phase phase{name, true, tasks.operations, {}};
    phase.costs.reserve(static_cast<std::size_t>(tasks.count));
    for (std::int64_t task = 0; task < tasks.count; ++task) phase.costs.push_back(cost(task));
    return phase;
}

/// The phase of add_partials.
inline Phase partials_phase(std::int64_t parts, std::int64_t count) {
    return phase_of("add partial sums", partial_tasks(parts, count),
                    [&](std::int64_t task) { return TaskCost{0, partial_values(parts, count, task)}; });
}

/// A phase on the calling thread.
inline Phase serial_phase(const char* name, const TaskCost& cost) { return {name, false, 0, {cost}}; }

} // namespace fastconv
