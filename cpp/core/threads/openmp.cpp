// A parallel region of OpenMP ends only when each of its threads has taken part, even if no work is left for the last
// one. A thread that waits for a CPU therefore delays the whole region. In the pool, a caller can finish its job alone.
//
// Such a wait takes as long as the scheduler's time slices, often 4 to 20 ms. There are three cases: other programs
// occupy the CPUs; the idle threads of OpenBLAS spin between two matrix products; or the system wakes a thread of
// OpenMP on its caller's CPU and leaves it there.
#include "core/threads/openmp.h"

#include "core/threads/job.h"

#if defined(_OPENMP)
#include <atomic>
#include <chrono>
#endif

namespace fastconv {

#if defined(_OPENMP)

namespace {

using Clock = std::chrono::steady_clock;

// If a region waits for longer than kLate, the pool runs all jobs for a time of kPoolAfterLate.
constexpr std::chrono::milliseconds kLate{2};
constexpr std::chrono::seconds kPoolAfterLate{10};

std::atomic<Clock::time_point> g_pool_until{Clock::time_point::min()};

thread_local std::int64_t t_last_threads = 0; // how many threads libgomp keeps for this caller

} // namespace

void run_on_openmp(Job& job, std::int64_t threads) {
    const bool starts_threads = threads > t_last_threads; // starting threads takes some milliseconds
    t_last_threads = threads;
    Clock::rep longest_work = 0; // the time that the busiest thread worked
    const Clock::time_point start = Clock::now();
#pragma omp parallel num_threads(static_cast<int>(threads)) reduction(max : longest_work)
    {
        const Clock::time_point work_start = Clock::now();
        job.work();
        longest_work = (Clock::now() - work_start).count();
    }
    const Clock::time_point end = Clock::now();
    // Only waiting counts as late, so the time of the busiest thread is subtracted.
    if (!starts_threads && end - start - Clock::duration(longest_work) > kLate) {
        g_pool_until = end + kPoolAfterLate;
    }
}

bool openmp_was_late() { return Clock::now() < g_pool_until.load(std::memory_order_relaxed); }

#else

void run_on_openmp(Job& job, std::int64_t) { job.work(); }

bool openmp_was_late() { return true; }

#endif

} // namespace fastconv
