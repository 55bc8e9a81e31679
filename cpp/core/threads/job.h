// The tasks of one parallel_for, handed out to the threads that work on them. Both backends run jobs.
#pragma once

#include "core/threads/cpus.h"
#include "core/threads/parallel_for.h"

#include <atomic>
#include <cstdint>
#include <exception>

namespace fastconv {

/// Whether the calling thread runs a task of a job.
bool inside_task();

/// The tasks are divided into one range per thread. A thread starts with the range of the CPU that it runs on, so that
/// a CPU finds the same images of a batch in its caches, operation after operation. A thread that has finished a range
/// goes on with the next.
class Job {
  public:
    Job(std::int64_t count, std::int64_t threads, TaskFunction function, void* context);

    bool has_tasks_left() const;

    /// Runs tasks on the calling thread until none are left. As long as the job has no helpers, the thread yields its
    /// CPU before each task, at most `yields` times. After a failure, no further task is started.
    void work(std::int64_t yields = 0);

    /// Throws the first exception of a task. Call it when all threads have left the job.
    void rethrow_failure() const;

    // For the pool. The helpers are the workers inside the job. Their number grows only while the pool lists the job.
    std::atomic<std::int64_t> helpers{0};
    std::int64_t max_helpers = 0; // the pool may have more workers, if more threads were allowed before
    const int caller_cpu = current_cpu();

  private:
    static constexpr std::int64_t kMaxRanges = 16;
    struct alignas(64) Range { // a cache line each, so that CPUs do not contend for one
        std::atomic<std::int64_t> next{0};
        std::int64_t end = 0;
    };

    const TaskFunction function_;
    void* const context_;
    std::atomic<bool> failed_{false};
    std::exception_ptr failure_;
    const std::int64_t ranges_;
    Range range_[kMaxRanges];
};

} // namespace fastconv
