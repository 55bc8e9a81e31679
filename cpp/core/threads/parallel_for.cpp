// The number of threads, the choice between OpenMP and the pool, and the serial case.
//
// OpenMP is the default. libgomp keeps one set of threads per calling thread, and they do not survive fork(). The pool
// therefore serves callers that come from many threads, and every forked child. It also replaces OpenMP for a while
// when other threads, such as those of NumPy's BLAS, occupy the CPUs.
#include "core/threads/parallel_for.h"

#include "core/cpu_state.h"
#include "core/threads/cpus.h"
#include "core/threads/fork.h"
#include "core/threads/job.h"
#include "core/threads/openmp.h"
#include "core/threads/pool.h"
#include "fastconv/threads.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>

namespace fastconv {
namespace {

// Waking a thread takes about 5 us. Below this many operations that costs more than it saves.
constexpr double kSerialCost = 2e5;

// libgomp ends the process when the system refuses it a thread, so absurd numbers must not reach it.
constexpr std::int64_t kMaxThreads = 1024;

std::atomic<std::int64_t>& num_threads() {
    static std::atomic<std::int64_t> count{std::min(default_num_threads(), kMaxThreads)};
    return count;
}

std::atomic<std::int64_t> g_host_threads{kMaxThreads};
thread_local ThreadingBackend t_preferred = ThreadingBackend::openmp;

/// The value of FASTCONV_THREADING; empty if it is not set.
const std::string& forced_backend() {
    static const std::string forced = std::getenv("FASTCONV_THREADING") ? std::getenv("FASTCONV_THREADING") : "";
    if (!forced.empty() && forced != "openmp" && forced != "pool") {
        throw InvalidArgument("the environment variable FASTCONV_THREADING is '" + forced +
                              "', but must be 'openmp' or 'pool'");
    }
    return forced;
}

/// What the settings say. A forked child has no choice.
bool pool_is_chosen() {
    if constexpr (kHasOpenmp) {
        const std::string& forced = forced_backend();
        return in_forked_child() || forced == "pool" || (forced.empty() && t_preferred == ThreadingBackend::pool);
    }
    return true;
}

/// The settings, and how OpenMP did lately unless FASTCONV_THREADING forces it.
bool use_openmp() { return !pool_is_chosen() && (!forced_backend().empty() || !openmp_was_late()); }

} // namespace

void run_tasks(std::int64_t count, double cost, TaskFunction function, void* context) {
    const std::int64_t allowed = t_preferred == ThreadingBackend::pool
                                     ? std::min(num_threads().load(), g_host_threads.load())
                                     : num_threads().load();
    const std::int64_t threads = std::min(count, allowed);
    if (threads <= 1 || cost < kSerialCost || inside_task()) {
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

void set_num_threads(std::int64_t count) {
    if (count < 1 || count > kMaxThreads) {
        throw InvalidArgument("n must be at least 1 and at most " + std::to_string(kMaxThreads) + ", got " +
                              std::to_string(count));
    }
    num_threads() = count;
}

std::int64_t get_num_threads() { return num_threads(); }

std::int64_t threads_for_tasks() { return inside_task() ? 1 : get_num_threads(); }

void limit_host_threads(std::int64_t count) { g_host_threads = std::clamp<std::int64_t>(count, 1, kMaxThreads); }

std::string threading_backend() { return pool_is_chosen() ? "pool" : "openmp"; }

PreferBackend::PreferBackend(ThreadingBackend backend) : previous_(t_preferred) { t_preferred = backend; }
PreferBackend::~PreferBackend() { t_preferred = previous_; }

} // namespace fastconv
