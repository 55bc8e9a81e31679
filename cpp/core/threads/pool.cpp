#include "core/threads/pool.h"

#include "core/made_once.h"
#include "core/threads/cpus.h"
#include "core/threads/fork.h"
#include "core/threads/job.h"
#include "core/threads/spin.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace fastconv {
namespace {

// If all CPUs are busy, a woken worker queues on its caller's CPU and the scheduler does not migrate it. The caller
// therefore yields once per woken worker, and the worker moves away (see leave_cpu). This takes about 50 us, so the
// caller yields only for jobs of at least this many operations.
constexpr double kYieldCost = 5e6;

// A sleeping thread starts about 30 us after it was woken, which is longer than many calls take. A thread therefore
// spins for kSpinTime before it sleeps.
constexpr std::chrono::microseconds kSpinTime{50};

// A caller works on its own job. The workers help with any job that has tasks left, as long as no more threads than
// allowed are at work for all callers together. The mutex is for starting workers, for going to sleep and for waking
// others. A call takes none if its workers are awake.
class Pool {
  public:
    void run(Job& job, std::int64_t threads, std::int64_t max_at_work, std::int64_t yields) {
        job.max_helpers = threads - 1;
        if (workers_.load(std::memory_order_relaxed) < job.max_helpers) {
            start_workers(job.max_helpers);
        }
        {
            const std::lock_guard<SpinLock> guard(jobs_lock_);
            jobs_.push_back(&job);
            ++at_work_;
            max_at_work_ = max_at_work;
        }
        announce(job.max_helpers);
        job.work(yields);
        bool another = false;
        {
            const std::lock_guard<SpinLock> guard(jobs_lock_);
            jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
            --at_work_;
            another = job_to_help() != nullptr;
        }
        if (another) { // a worker may now take this caller's place
            announce(1);
        }
        wait_for_helpers(job);
    }

  private:
    void start_workers(std::int64_t count) {
        const std::lock_guard<std::mutex> guard(mutex_);
        try {
            while (workers_ < count) {
                std::thread([this] { help_forever(); }).detach();
                ++workers_;
            }
        } catch (const std::system_error&) {
            // The system refuses a thread. The caller and the existing workers do the work.
        }
    }

    void help_forever() {
        for (;;) {
            const std::uint64_t seen = announcements_.load(); // before looking for a job, so that none is missed
            if (Job* job = enter_job()) {
                // Caller and worker would wait for each other on one CPU. The system's load balancing takes longer than
                // most operations to move one of them.
                if (job->caller_cpu == current_cpu()) {
                    leave_cpu(job->caller_cpu);
                }
                job->work();
                leave_job(*job);
            } else {
                wait_for_announcement(seen);
            }
        }
    }

    Job* enter_job() {
        const std::lock_guard<SpinLock> guard(jobs_lock_);
        Job* job = job_to_help();
        if (job != nullptr) {
            job->helpers.fetch_add(1);
            ++at_work_;
        }
        return job;
    }

    void leave_job(Job& job) {
        {
            const std::lock_guard<SpinLock> guard(jobs_lock_);
            --at_work_;
        }
        // When its last helper has left, the caller may destroy the job. Do not use the job after that.
        if (job.helpers.fetch_sub(1) == 1 && waiting_callers_.load() > 0) {
            const std::lock_guard<std::mutex> guard(mutex_);
            wake_callers_.notify_all();
        }
    }

    /// With jobs_lock_ held: a job that a worker may enter, or null.
    Job* job_to_help() {
        if (at_work_ >= max_at_work_) {
            return nullptr;
        }
        for (Job* job : jobs_) {
            if (job->helpers.load(std::memory_order_relaxed) < job->max_helpers && job->has_tasks_left()) {
                return job;
            }
        }
        return nullptr;
    }

    // Why no wake-up is lost: before a thread sleeps, it increments the count of sleepers and then checks its
    // condition. A thread that makes the condition true does so first, and then reads the count. These operations are
    // sequentially consistent, so at least one of the two threads sees the other's change. The mutex is held while
    // notifying, so a notification cannot fall between the check and the sleep.

    void wait_for_helpers(Job& job) {
        const auto all_left = [&] { return job.helpers.load() == 0; };
        // Without yielding: each helper has one task to finish, and a thread that got this CPU would keep it for
        // longer.
        if (!spin_until(kSpinTime, false, all_left)) {
            std::unique_lock<std::mutex> lock(mutex_);
            ++waiting_callers_;
            wake_callers_.wait(lock, all_left);
            --waiting_callers_;
        }
    }

    void wait_for_announcement(std::uint64_t seen) {
        const auto announced = [&] { return announcements_.load() != seen; };
        if (!spin_until(kSpinTime, true, announced)) {
            std::unique_lock<std::mutex> lock(mutex_);
            ++sleeping_workers_;
            wake_workers_.wait(lock, announced);
            --sleeping_workers_;
        }
    }

    /// Tells the workers that a job needs helpers, and wakes at most this number of sleeping workers.
    void announce(std::int64_t helpers) {
        announcements_.fetch_add(1);
        if (sleeping_workers_.load() == 0) {
            return;
        }
        const std::lock_guard<std::mutex> guard(mutex_);
        for (std::int64_t i = std::min(helpers, sleeping_workers_.load()); i > 0; --i) {
            wake_workers_.notify_one();
        }
    }

    SpinLock jobs_lock_; // guards the next three members, and entering a job
    std::vector<Job*> jobs_;
    std::int64_t at_work_ = 0;     // callers and workers inside jobs
    std::int64_t max_at_work_ = 0; // the most callers and workers inside jobs that the last caller allows

    std::mutex mutex_;
    std::condition_variable wake_workers_, wake_callers_;
    std::atomic<std::int64_t> workers_{0}, sleeping_workers_{0}, waiting_callers_{0};
    std::atomic<std::uint64_t> announcements_{0};
};

// The pool is never destroyed, because detached workers may outlive the destruction of static objects. A forked child
// has no workers, and its copy of the mutex may be locked, so it abandons that pool and makes a new one.
MadeOnce<Pool> g_pool;
const bool g_registered = on_fork_in_child([] { g_pool.abandon(); });

} // namespace

void run_on_pool(Job& job, std::int64_t threads, std::int64_t max_at_work, double cost) {
    g_pool.get().run(job, threads, max_at_work, cost >= kYieldCost ? threads - 1 : 0);
}

} // namespace fastconv
