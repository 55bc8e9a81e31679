// One parallel_for over two backends: OpenMP, and a pool of our own for hosts with many calling threads.
#pragma once

#include <cstdint>
#include <string>

namespace fastconv {

using TaskFunction = void (*)(void* context, std::int64_t task);

void run_tasks(std::int64_t count, double cost, TaskFunction function, void* context);

/// Calls body(task) for each task in [0, count), in any order, on any of the configured threads, and returns when all
/// have ended. `cost` is a rough number of operations of the whole: little work stays on the calling thread. What
/// `body` throws first is thrown again once all threads have ended; some tasks are then left undone. Inside a task, all
/// of a parallel_for runs on the task's thread.
template <class Body>
void parallel_for(std::int64_t count, double cost, Body body) {
    run_tasks(count, cost, [](void* context, std::int64_t task) { (*static_cast<Body*>(context))(task); }, &body);
}

/// As many threads as a parallel_for may use here: of get_num_threads(), and one inside a task.
std::int64_t threads_for_tasks();

/// "openmp" or "pool": what run_tasks would use on this thread now.
std::string threading_backend();

} // namespace fastconv
