// All work that fastconv runs on several threads goes through parallel_for.
#pragma once

#include "fastconv/phases.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace fastconv {

using TaskFunction = void (*)(void* context, std::int64_t task);

void run_tasks(std::int64_t count, double cost, TaskFunction function, void* context);

/// Calls body(task) for each task in [0, count), in any order and on any of the configured threads. Returns when all
/// calls have returned.
///
/// `cost` is a rough number of operations for all tasks together. Small jobs run on the calling thread. A parallel_for
/// inside a task runs on the task's thread. If `body` throws, no further task is started, and the first exception is
/// thrown again once all threads have left.
template <class Body>
void parallel_for(std::int64_t count, double cost, Body body) {
    run_tasks(count, cost, [](void* context, std::int64_t task) { (*static_cast<Body*>(context))(task); }, &body);
}

/// The most threads that a parallel_for may use here: one inside a task, and get_num_threads() elsewhere.
std::int64_t threads_for_tasks();

/// Up to so many threads have even shares in every cut. For more, plans choose the cut that takes the least time.
constexpr std::int64_t kFewThreads = 2;

/// The tasks of a loop: how many, and the rough number of operations of all of them.
struct Tasks {
    std::int64_t count;
    double operations;
};

/// The tasks that move so many values: pack, transform, copy or add them up. Such loops are short. A second thread
/// saves half of one, so that only a longer loop pays for waking it. With more threads, they soon pay: the products
/// before or after wake the threads anyway.
inline Tasks moving_tasks(std::int64_t count, std::int64_t values) {
    return {count, (threads_for_tasks() > kFewThreads ? 2 * kMovedValue : 1) * static_cast<double>(values)};
}

template <class Body>
void parallel_for(const Tasks& tasks, Body body) {
    parallel_for(tasks.count, tasks.operations, std::move(body));
}

/// Whether a loop with so many operations may use other threads than the caller's. Waking them would take longer than
/// a smaller loop.
bool pays_for_threads(double operations);

/// While this object lives, `counts` gets the number of tasks of each loop that this thread starts, except in tasks.
class RecordLoops {
  public:
    explicit RecordLoops(std::vector<std::int64_t>& counts);
    ~RecordLoops();
    RecordLoops(const RecordLoops&) = delete;
    RecordLoops& operator=(const RecordLoops&) = delete;
};

/// "openmp" or "pool": the backend that the settings choose for this thread. (See also openmp_was_late.)
std::string threading_backend();

} // namespace fastconv
