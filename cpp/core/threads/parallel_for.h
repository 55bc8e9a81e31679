// All work that fastconv runs on several threads goes through parallel_for.
#pragma once

#include <cstdint>
#include <string>

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

/// "openmp" or "pool": the backend that the settings choose for this thread. (See also openmp_was_late.)
std::string threading_backend();

} // namespace fastconv
