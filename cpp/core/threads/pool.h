// The pool backend of parallel_for: one set of threads for all callers of the process.
#pragma once

#include <cstdint>

namespace fastconv {

class Job;

/// Runs the job on the calling thread and workers of the pool, at most `threads` threads in all. The caller always
/// works. A worker joins only while fewer than `max_at_work` callers and workers are at work. Returns when all threads
/// have left the job. `cost` is that of parallel_for.
void run_on_pool(Job& job, std::int64_t threads, std::int64_t max_at_work, double cost);

} // namespace fastconv
