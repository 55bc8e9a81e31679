#include "core/threads/job.h"

#include "core/cpu_state.h"

#include <algorithm>
#include <thread>

namespace fastconv {
namespace {

thread_local bool t_inside_task = false;

class InsideTask {
  public:
    InsideTask() { t_inside_task = true; }
    ~InsideTask() { t_inside_task = false; } // jobs do not nest
    InsideTask(const InsideTask&) = delete;
    InsideTask& operator=(const InsideTask&) = delete;
};

} // namespace

bool inside_task() { return t_inside_task; }

Job::Job(std::int64_t count, std::int64_t threads, TaskFunction function, void* context)
    : function_(function), context_(context), ranges_(std::min(threads, kMaxRanges)) {
    for (std::int64_t i = 0; i < ranges_; ++i) {
        range_[i].next.store(count * i / ranges_, std::memory_order_relaxed);
        range_[i].end = count * (i + 1) / ranges_;
    }
}

bool Job::has_tasks_left() const {
    return std::any_of(range_, range_ + ranges_,
                       [](const Range& range) { return range.next.load(std::memory_order_relaxed) < range.end; });
}

void Job::work(std::int64_t yields) {
    const FloatingPointState state;
    const InsideTask inside;
    // The C++ runtime allocates a thread's exception state at its first use. Do that now, in case memory runs out in a
    // task. The result is volatile, because the compiler could otherwise leave out the call.
    [[maybe_unused]] const volatile int none = std::uncaught_exceptions();
    const std::int64_t first = std::max(current_cpu(), 0);
    for (std::int64_t i = 0; i < ranges_; ++i) {
        Range& range = range_[(first + i) % ranges_];
        try {
            for (std::int64_t task = range.next.fetch_add(1); task < range.end; task = range.next.fetch_add(1)) {
                // Yields before the task, because the task may be long. A worker that waits for this CPU can then move.
                if (yields > 0 && helpers.load(std::memory_order_relaxed) == 0) {
                    --yields;
                    std::this_thread::yield();
                }
                function_(context_, task);
            }
        } catch (...) { // std::bad_alloc, for example; an exception must not leave a thread of OpenMP or of the pool
            if (!failed_.exchange(true)) {
                failure_ = std::current_exception();
            }
            for (std::int64_t k = 0; k < ranges_; ++k) {
                range_[k].next = range_[k].end;
            }
            return;
        }
    }
}

void Job::rethrow_failure() const {
    if (failure_) {
        std::rethrow_exception(failure_);
    }
}

} // namespace fastconv
