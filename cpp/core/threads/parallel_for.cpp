// The number of threads, the choice between OpenMP and the pool, and the serial case.
//
// OpenMP is the default. libgomp keeps one set of threads for each calling thread, and no set survives fork(). The pool
// therefore serves callers that come from many threads, and every forked child. The pool also replaces OpenMP for a
// while when other threads, such as those of NumPy's BLAS, occupy the CPUs.
#include "core/threads/parallel_for.h"

#include "core/cpu_state.h"
#include "core/environment.h"
#include "core/threads/cpus.h"
#include "core/threads/fork.h"
#include "core/threads/job.h"
#include "core/threads/openmp.h"
#include "core/threads/pool.h"
#include "fastconv/threads.h"

#include <algorithm>
#include <atomic>

namespace fastconv {
namespace {

// Waking a thread costs its caller about 5 us. For jobs below this many operations, several threads cost more than
// they save.
constexpr double kSerialCost = 2e5;

std::atomic<std::int64_t> g_num_threads{0}; // 0 before the first use
std::atomic<std::int64_t> g_host_threads{kMaxThreads};
thread_local ThreadingBackend t_preferred = ThreadingBackend::openmp;
std::atomic<std::int64_t> g_records{0}; // read first, because it is faster than a variable of the thread
thread_local std::vector<std::int64_t>* t_record = nullptr;

/// Whether the settings choose the pool. A forked child always uses the pool.
bool pool_is_chosen() {
    if constexpr (kHasOpenmp) {
        return in_forked_child() || environment().threading.value_or(t_preferred) == ThreadingBackend::pool;
    }
    return true;
}

/// Whether to use OpenMP: the settings choose it, and it was not late recently or FASTCONV_THREADING forces it.
bool use_openmp() { return !pool_is_chosen() && (environment().threading.has_value() || !openmp_was_late()); }

} // namespace

void run_tasks(std::int64_t count, double cost, TaskFunction function, void* context) {
    if (g_records.load(std::memory_order_relaxed) != 0 && t_record != nullptr && !inside_task()) {
        t_record->push_back(count);
    }
    std::int64_t allowed = get_num_threads();
    if (t_preferred == ThreadingBackend::pool) {
        allowed = std::min(allowed, g_host_threads.load());
    }
    const std::int64_t threads = std::min(count, allowed);
    if (threads <= 1 || !pays_for_threads(cost) || inside_task()) {
        const FloatingPointState state;
        for (std::int64_t task = 0; task < count; ++task) {
            function(context, task);
        }
        return;
    }
    Job job(count, threads, function, context);
    if (use_openmp()) {
        run_on_openmp(job, threads);
    } else {
        run_on_pool(job, threads, allowed, cost);
    }
    job.rethrow_failure();
}

bool pays_for_threads(double operations) { return operations >= kSerialCost; }

RecordLoops::RecordLoops(std::vector<std::int64_t>& counts) {
    t_record = &counts;
    ++g_records;
}
RecordLoops::~RecordLoops() {
    --g_records;
    t_record = nullptr;
}

void set_num_threads(std::int64_t count) {
    if (count < 1 || count > kMaxThreads) {
        throw InvalidArgument("n must be at least 1 and at most " + std::to_string(kMaxThreads) + ", got " +
                              std::to_string(count));
    }
    environment(); // throws if a variable has a wrong value
    g_num_threads = count;
}

std::int64_t get_num_threads() {
    std::int64_t count = g_num_threads.load();
    if (count == 0) {
        const std::int64_t first = default_num_threads();
        count = g_num_threads.compare_exchange_strong(count, first) ? first : count;
    }
    return count;
}

std::int64_t threads_for_tasks() { return inside_task() ? 1 : get_num_threads(); }

void limit_host_threads(std::int64_t count) { g_host_threads = std::clamp<std::int64_t>(count, 1, kMaxThreads); }

std::string threading_backend() { return pool_is_chosen() ? "pool" : "openmp"; }

PreferBackend::PreferBackend(ThreadingBackend backend) : previous_(t_preferred) { t_preferred = backend; }
PreferBackend::~PreferBackend() { t_preferred = previous_; }

} // namespace fastconv
