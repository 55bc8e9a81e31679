// A parallel region of OpenMP ends only when each of its threads has taken part, even if no work is left for the last
// one. A thread that waits for a CPU therefore delays the whole region. This happens next to OpenBLAS, whose idle
// threads spin: between two matrix products, convolutions of 0.1 ms took up to 4 ms, a time slice of the scheduler. In
// the pool, a caller can finish its job alone.
#include "core/threads/openmp.h"

#include "core/threads/job.h"

#if defined(_OPENMP)
#include <omp.h>

#include <atomic>
#include <chrono>
#endif

namespace fastconv {

#if defined(_OPENMP)

namespace {

using Clock = std::chrono::steady_clock;

// If a region waits for longer than kLate although its work is done, the pool runs the jobs of the next kPoolAfterLate.
constexpr std::chrono::milliseconds kLate{2}; // starting a thread takes 1 ms
constexpr std::chrono::seconds kPoolAfterLate{1};

std::atomic<Clock::time_point> g_pool_until{Clock::time_point::min()};

} // namespace

void run_on_openmp(Job& job, std::int64_t threads) {
    std::atomic<std::int64_t> arrived{0};
    bool all_arrived = true;
    Clock::time_point work_done;
#pragma omp parallel num_threads(static_cast<int>(threads))
    {
        arrived.fetch_add(1, std::memory_order_relaxed);
        job.work();
        if (omp_get_thread_num() == 0 && arrived.load(std::memory_order_relaxed) < omp_get_num_threads()) {
            all_arrived = false;
            work_done = Clock::now();
        }
    }
    if (!all_arrived) {
        const Clock::time_point now = Clock::now();
        if (now - work_done > kLate) {
            g_pool_until = now + kPoolAfterLate;
        }
    }
}

bool openmp_was_late() { return Clock::now() < g_pool_until.load(std::memory_order_relaxed); }

#else

void run_on_openmp(Job& job, std::int64_t) { job.work(); }

bool openmp_was_late() { return true; }

#endif

} // namespace fastconv
