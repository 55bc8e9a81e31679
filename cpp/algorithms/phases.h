// The phases of a plan, for counting: parallel loops, and what the calling thread does between them. They run one after
// the other. The loops of a run take their tasks from the same functions of the decisions.
#pragma once

#include "core/partial_sums.h"
#include "core/threads/parallel_for.h"
#include "fastconv/phases.h"

#include <cstddef>
#include <utility>
#include <vector>

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
    const PartialTasks cut(parts, count);
    return phase_of("add partial sums", cut.tasks(), [&](std::int64_t task) { return TaskCost{0, cut.values(task)}; });
}

/// A phase on the calling thread.
inline Phase serial_phase(const char* name, const TaskCost& cost) { return {name, false, 0, {cost}}; }

/// How long a phase takes with so many threads, in multiplications, if a thread that is free takes the next task.
double length_of(const Phase& phase, std::int64_t threads);
/// How long phases take, one after the other.
double length_of(const std::vector<Phase>& phases, std::int64_t threads);

/// The multiplications of the phases.
double products_of(const std::vector<Phase>& phases);

/// Sets the cut with the shortest phases, and returns its index. A cut replaces an earlier one only if it is shorter by
/// 3 %, so coarse cuts should come first: finer tasks read filters and pixels again more often, which `length_of`
/// ignores. `set` changes the decisions to a cut.
template <class Decisions, class Cut, class Set>
std::size_t set_shortest(Decisions& decisions, std::int64_t threads, const std::vector<Cut>& cuts, Set&& set) {
    constexpr double gain = 0.97;
    std::size_t best = 0;
    double least = 0;
    for (std::size_t i = 0; i < cuts.size(); ++i) {
        set(cuts[i]);
        if (cuts.size() == 1) return 0;
        const std::vector<Phase> phases = decisions.phases();
        const double length = length_of(phases, threads);
        if (i > 0 && length >= gain * least) continue;
        best = i;
        least = length;
        if (gain * least * static_cast<double>(threads) <= products_of(phases)) return best; // none can be shorter
    }
    set(cuts[best]);
    return best;
}

/// `first` and multiples of it, up to `last`: the numbers of parts that are tried.
std::vector<std::int64_t> finer_parts(std::int64_t first, std::int64_t last);

} // namespace fastconv
