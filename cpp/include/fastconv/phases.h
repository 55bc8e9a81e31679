// What the tasks of a call cost, for counting.
#pragma once

#include "fastconv/types.h"

#include <vector>

namespace fastconv {

/// A moved value takes as long as this many multiplications. Two vectors are multiplied in a cycle. A load, a store,
/// and a few additions or permutations between them take four cycles for each vector.
constexpr double kMovedValue = 8;

/// What a task does: multiplications of sums, and values that it packs, transforms, copies or adds up besides.
struct TaskCost {
    double multiplications = 0, moved_values = 0;

    /// How long the task takes, in multiplications.
    double length() const { return multiplications + kMovedValue * moved_values; }
};
/// A part of a call that is finished before the next one starts.
struct Phase {
    const char* name;
    bool loop;         // a parallel loop; if not, one task of the calling thread
    double operations; // of all tasks, roughly; see pays_for_threads
    std::vector<TaskCost> costs;

    /// Whether several threads share the tasks.
    FASTCONV_API bool parallel() const;
};

} // namespace fastconv
