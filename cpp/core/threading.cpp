// The two backends of parallel_for, the thread count, and what fork() does to them.
//
// OpenMP is the default. libgomp keeps one pool for each calling thread and its pool does not survive fork(), so the
// second backend, one pool for the process, serves callers that come from many threads, and every forked child. It also
// steps in where other threads, such as those of NumPy's BLAS, keep OpenMP's from the CPUs.
#include "core/threading.h"

#include "core/floating_point_state.h"
#include "fastconv/threads.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__SSE2__)
#include <immintrin.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace fastconv {
namespace {

// Below this many operations waking a thread (some 5 us) costs more than it saves.
constexpr double kSerialCost = 2e5;

// A worker that was woken while the framework's threads had all CPUs queues behind its own caller, and the system does
// not move it when another CPU falls idle: it thinks of its caches. From this many operations on (some 50 us) a caller
// whom nobody helps lets others have its CPU after a task, once for each worker that it woke; the worker then leaves it
// (see leave_cpu).
constexpr double kYieldCost = 5e6;

// libgomp ends the process when the system refuses it a thread, so absurd numbers must not reach it.
constexpr std::int64_t kMaxThreads = 1024;

// A region of OpenMP ends when all its threads have been there, so one that waits for a CPU delays it even where
// nothing is left to do. Idle threads of OpenBLAS spin: between its matrix products, our operations of 0.1 ms took up
// to 4 ms, a time slice. In the pool a caller whom nobody helps ends alone. After a region that waited for kLate for
// threads that came too late to do anything, the process takes the pool for kPoolAfterLate, and then tries OpenMP
// again.
constexpr std::chrono::milliseconds kLate{2}; // starting a thread takes 1
constexpr std::chrono::seconds kPoolAfterLate{1};

// How long a thread of the pool waits awake, and how many pauses lie between its looks at the clock.
constexpr std::chrono::microseconds kAwake{50};
constexpr int kPausesBetweenLooks = 32;

void pause() {
#if defined(__SSE2__)
    _mm_pause();
#endif
}

/// The CPU that the calling thread runs on, -1 where the system does not tell.
int current_cpu() {
#if defined(__linux__)
    return sched_getcpu();
#else
    return -1;
#endif
}

// Operations inside a task stay on its thread.
thread_local bool t_inside_task = false;

class InsideTask {
  public:
    InsideTask() { t_inside_task = true; }
    ~InsideTask() { t_inside_task = false; } // jobs do not nest
    InsideTask(const InsideTask&) = delete;
    InsideTask& operator=(const InsideTask&) = delete;
};

// The tasks of a job lie in as many ranges as it has threads, and a thread starts with the range of the CPU it runs on.
// Operation after operation on the same batch, a CPU then meets the images that lie in its own caches. Who has finished
// a range goes on with the next.
struct Job {
    static constexpr std::int64_t kMostRanges = 16;
    struct alignas(64) Range { // two CPUs that count in one cache line would wait for each other
        std::atomic<std::int64_t> next{0};
        std::int64_t end = 0;
    };

    Job(std::int64_t count, std::int64_t threads, TaskFunction function, void* context)
        : function_(function), context_(context), ranges_(std::min(threads, kMostRanges)) {
        for (std::int64_t i = 0; i < ranges_; ++i) {
            range_[i].next.store(count * i / ranges_, std::memory_order_relaxed);
            range_[i].end = count * (i + 1) / ranges_;
        }
    }

    bool open() const {
        return std::any_of(range_, range_ + ranges_,
                           [](const Range& range) { return range.next.load(std::memory_order_relaxed) < range.end; });
    }

    /// `yields`: so often, between tasks, while nobody helps.
    void work(std::int64_t yields = 0) {
        const FloatingPointState state;
        const InsideTask inside;
        // Makes this thread's place for exceptions, while there is memory; volatile, or it could be left out.
        [[maybe_unused]] const volatile int none = std::uncaught_exceptions();
        const std::int64_t first = std::max(current_cpu(), 0);
        for (std::int64_t i = 0; i < ranges_; ++i) {
            Range& range = range_[(first + i) % ranges_];
            try {
                for (std::int64_t task = range.next.fetch_add(1); task < range.end; task = range.next.fetch_add(1)) {
                    function_(context_, task);
                    if (yields > 0 && helpers.load(std::memory_order_relaxed) == 0) {
                        --yields;
                        std::this_thread::yield();
                    }
                }
            } catch (...) { // no memory: nothing may leave a thread of OpenMP or of the pool
                if (!failed_.exchange(true)) {
                    failure_ = std::current_exception();
                }
                return;
            }
        }
    }

    /// Once all threads have left.
    void rethrow_failure() const {
        if (failure_) {
            std::rethrow_exception(failure_);
        }
    }

    std::atomic<std::int64_t> helpers{0}; // workers inside; grows while the job is on the pool's list only
    std::int64_t most_helpers = 0;        // the pool may have more workers, from when more threads were allowed
    int caller_cpu = current_cpu();

  private:
    const TaskFunction function_;
    void* const context_;
    std::atomic<bool> failed_{false};
    std::exception_ptr failure_;
    const std::int64_t ranges_;
    Range range_[kMostRanges];
};

/// Moves the calling thread to another CPU, if it may use one. A worker that is woken beside its caller would wait for
/// it, or keep it waiting, until the system's balancing finds the idle CPU, which takes longer than most operations.
void leave_cpu(int cpu) {
#if defined(__linux__)
    cpu_set_t allowed;
    if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        return;
    }
    cpu_set_t others = allowed;
    CPU_CLR(cpu, &others);
    if (CPU_COUNT(&others) > 0 && sched_setaffinity(0, sizeof others, &others) == 0) {
        sched_setaffinity(0, sizeof allowed, &allowed);
    }
#else
    (void)cpu;
#endif
}

/// Waits a moment for what another thread is about to do, and returns whether `ready` came true. Who `yields` lets
/// other threads have the CPU meanwhile, such as one of the framework's whose matrix product starts where our operation
/// ended.
template <class Ready>
bool spin_until(std::chrono::microseconds most, bool yields, Ready ready) {
    const auto end = std::chrono::steady_clock::now() + most;
    do {
        for (int i = 0; i < kPausesBetweenLooks; ++i) {
            if (ready()) {
                return true;
            }
            pause();
        }
        if (yields) {
            std::this_thread::yield();
        }
    } while (std::chrono::steady_clock::now() < end);
    return ready();
}

/// For a few instructions at a time. A mutex would put the thread that meets another to sleep, and where a framework's
/// threads wait for a CPU it comes back hundreds of microseconds later.
class SpinLock {
  public:
    void lock() {
        for (int tries = 1; taken_.test_and_set(std::memory_order_acquire); ++tries) {
            if (tries % kPausesBetweenLooks == 0) {
                std::this_thread::yield(); // its owner may need this CPU
            } else {
                pause();
            }
        }
    }
    void unlock() { taken_.clear(std::memory_order_release); }

  private:
    std::atomic_flag taken_ = ATOMIC_FLAG_INIT;
};

// Waking a thread that sleeps takes some 30 us, as long as many an operation, so workers wait awake for a moment before
// they sleep on a condition variable, and so do callers whose helpers have not ended. A caller takes part in its own
// job; workers help whichever job is open, as long as no more threads than allowed are at work for all callers
// together. Between two jobs of a busy pool no thread takes the mutex: it belongs to those who sleep and wake.
class Pool {
  public:
    /// On at most `threads`, and at most `most` together with the jobs of other callers. `yields`: it is worth waiting
    /// for help.
    void run(Job& job, std::int64_t threads, std::int64_t most, bool yields) {
        job.most_helpers = threads - 1;
        if (workers_.load(std::memory_order_relaxed) < job.most_helpers) {
            hire(job.most_helpers);
        }
        {
            const std::lock_guard<SpinLock> guard(jobs_lock_);
            jobs_.push_back(&job);
            ++running_;
            most_running_ = most;
        }
        announce(job.most_helpers);
        job.work(yields ? job.most_helpers : 0);
        bool another = false;
        {
            const std::lock_guard<SpinLock> guard(jobs_lock_);
            jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
            --running_;
            another = open_job() != nullptr; // of another caller, whom a worker may now help in this one's place
        }
        if (another) {
            announce(1);
        }
        // Not yielding: helpers have a task each to end, and who got this CPU would keep it for longer than that.
        const auto ended = [&] { return job.helpers.load() == 0; };
        if (!spin_until(kAwake, false, ended)) {
            std::unique_lock<std::mutex> lock(mutex_);
            ++waiting_callers_;
            done_.wait(lock, ended);
            --waiting_callers_;
        }
    }

  private:
    void hire(std::int64_t workers) {
        const std::lock_guard<std::mutex> guard(mutex_);
        try {
            while (workers_ < workers) {
                std::thread([this] { serve(); }).detach();
                ++workers_;
            }
        } catch (const std::system_error&) {
            // The system refuses a thread: the caller and the workers that there are do the work.
        }
    }

    void serve() {
        for (;;) {
            const std::uint64_t seen = announced_.load(); // before the look at the jobs
            Job* job = nullptr;
            {
                const std::lock_guard<SpinLock> guard(jobs_lock_);
                job = open_job();
                if (job != nullptr) {
                    job->helpers.fetch_add(1);
                    ++running_;
                }
            }
            if (job == nullptr) {
                await_news(seen);
                continue;
            }
            if (job->caller_cpu == current_cpu()) {
                leave_cpu(job->caller_cpu);
            }
            job->work();
            {
                const std::lock_guard<SpinLock> guard(jobs_lock_);
                --running_;
            }
            // The job may be gone once its caller sees this.
            if (job->helpers.fetch_sub(1) == 1 && waiting_callers_.load() > 0) {
                const std::lock_guard<std::mutex> guard(mutex_);
                done_.notify_all();
            }
        }
    }

    // Who waits says so and then looks once more; who has news tells them and then looks for waiting ones. Both in the
    // one order of sequentially consistent operations, so that one of the two sees the other.
    void await_news(std::uint64_t seen) {
        const auto news = [&] { return announced_.load() != seen; };
        if (!spin_until(kAwake, true, news)) {
            std::unique_lock<std::mutex> lock(mutex_);
            ++sleeping_;
            wake_.wait(lock, news);
            --sleeping_;
        }
    }

    void announce(std::int64_t jobs_to_take) {
        announced_.fetch_add(1);
        if (sleeping_.load() == 0) {
            return;
        }
        const std::lock_guard<std::mutex> guard(mutex_); // not between a worker's last look and its sleep
        for (std::int64_t i = std::min(jobs_to_take, sleeping_.load()); i > 0; --i) {
            wake_.notify_one();
        }
    }

    Job* open_job() {
        if (running_ >= most_running_) {
            return nullptr;
        }
        for (Job* job : jobs_) {
            if (job->helpers.load(std::memory_order_relaxed) < job->most_helpers && job->open()) {
                return job;
            }
        }
        return nullptr;
    }

    SpinLock jobs_lock_; // of the next three, and of who enters a job
    std::vector<Job*> jobs_;
    std::int64_t running_ = 0, most_running_ = 0; // callers and workers inside a job; as the last caller allowed

    std::mutex mutex_; // of those who sleep
    std::condition_variable wake_, done_;
    std::atomic<std::int64_t> workers_{0}, sleeping_{0}, waiting_callers_{0};
    std::atomic<std::uint64_t> announced_{0}; // changes when a worker should look for a job
};

// Never destroyed: detached workers may outlive static destruction. A forked child has no workers and perhaps a locked
// mutex, so it gets a new pool; the old one is left as it is.
std::atomic<Pool*> g_pool{nullptr};
std::atomic<bool> g_forked{false};

#if defined(__unix__) || defined(__APPLE__)
// When the library is loaded, not at the first parallel work: the parent's libgomp may be in use by others already.
const int g_registered = pthread_atfork(nullptr, nullptr, [] {
    g_forked = true;
    g_pool = nullptr;
});
#endif

Pool& pool() {
    Pool* current = g_pool.load();
    if (current == nullptr) {
        Pool* fresh = new Pool;
        if (g_pool.compare_exchange_strong(current, fresh)) {
            return *fresh;
        }
        delete fresh;
    }
    return *current;
}

std::int64_t positive_number(const char* variable) {
    const char* text = std::getenv(variable);
    if (text == nullptr) {
        return 0;
    }
    char* end = nullptr;
    const long value = std::strtol(text, &end, 10);
    return end != text && (*end == '\0' || *end == ',') && value > 0 ? value : 0;
}

// CPUs' worth of time that one control group's directory allows, rounded up; 0 where it sets no limit.
std::int64_t quota_of(const std::string& directory, bool v2) {
    std::string quota; // "max" (v2) and -1 (v1) are no limit
    double period = 0;
    if (v2) {
        std::ifstream(directory + "/cpu.max") >> quota >> period;
    } else {
        std::ifstream(directory + "/cpu.cfs_quota_us") >> quota;
        std::ifstream(directory + "/cpu.cfs_period_us") >> period;
    }
    const double cpus = period > 0 ? std::ceil(std::strtod(quota.c_str(), nullptr) / period) : 0;
    return cpus >= 1 && cpus < 1e6 ? static_cast<std::int64_t>(cpus) : 0;
}

// The tightest CPU quota of this process's control group and the groups around it; 0 if there is none. Inside a
// container the group's own path may not be visible, only the top directory, which is then the container's.
std::int64_t cpu_quota() {
    std::int64_t tightest = 0;
    std::ifstream groups("/proc/self/cgroup"); // lines "0::/path" (v2) and "4:cpu,cpuacct:/path" (v1)
    for (std::string line; std::getline(groups, line);) {
        const std::size_t first = line.find(':');
        const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
        if (second == std::string::npos) {
            continue;
        }
        const std::string controllers = ',' + line.substr(first + 1, second - first - 1) + ',';
        const bool v2 = controllers == ",,";
        if (!v2 && controllers.find(",cpu,") == std::string::npos) {
            continue;
        }
        const std::string root = v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu";
        for (std::string path = line.substr(second + 1);; path.resize(path.rfind('/'))) {
            const std::int64_t quota = quota_of(root + path, v2);
            if (quota > 0 && (tightest == 0 || quota < tightest)) {
                tightest = quota;
            }
            if (path.find('/') == std::string::npos) {
                break;
            }
        }
    }
    return tightest;
}

std::int64_t default_threads() {
    for (const char* variable : {"FASTCONV_NUM_THREADS", "OMP_NUM_THREADS"}) {
        if (const std::int64_t value = positive_number(variable)) {
            return std::min(value, kMaxThreads);
        }
    }
    std::int64_t cpus = std::max(1u, std::thread::hardware_concurrency());
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        cpus = std::max(1, CPU_COUNT(&set));
    }
#endif
    const std::int64_t quota = cpu_quota();
    return std::min(quota > 0 ? std::min(cpus, quota) : cpus, kMaxThreads);
}

std::atomic<std::int64_t>& threads() {
    static std::atomic<std::int64_t> count{default_threads()};
    return count;
}

thread_local ThreadingBackend t_preferred = ThreadingBackend::openmp;
std::atomic<std::int64_t> g_host_threads{kMaxThreads};

/// What FASTCONV_THREADING says; empty if nothing.
const std::string& forced_backend() {
    static const std::string forced = std::getenv("FASTCONV_THREADING") ? std::getenv("FASTCONV_THREADING") : "";
    if (!forced.empty() && forced != "openmp" && forced != "pool") {
        throw InvalidArgument("the environment variable FASTCONV_THREADING is '" + forced +
                              "', but must be 'openmp' or 'pool'");
    }
    return forced;
}

bool use_pool() {
#if defined(_OPENMP)
    const std::string& forced = forced_backend();
    return g_forked || forced == "pool" || (forced.empty() && t_preferred == ThreadingBackend::pool);
#else
    return true;
#endif
}

#if defined(_OPENMP)
using Clock = std::chrono::steady_clock;
std::atomic<Clock::time_point> g_pool_until{Clock::time_point::min()};

void run_on_openmp(Job& job, std::int64_t threads) {
    std::atomic<std::int64_t> arrived{0};
    bool all_came = true;
    Clock::time_point ended_alone;
#pragma omp parallel num_threads(static_cast<int>(threads))
    {
        arrived.fetch_add(1, std::memory_order_relaxed);
        job.work();
        if (omp_get_thread_num() == 0 && arrived.load(std::memory_order_relaxed) < omp_get_num_threads()) {
            all_came = false;
            ended_alone = Clock::now();
        }
    }
    if (!all_came) {
        const Clock::time_point now = Clock::now();
        if (now - ended_alone > kLate) {
            g_pool_until = now + kPoolAfterLate;
        }
    }
}
#endif

} // namespace

void run_tasks(std::int64_t count, double cost, TaskFunction function, void* context) {
    const std::int64_t most =
        t_preferred == ThreadingBackend::pool ? std::min(threads().load(), g_host_threads.load()) : threads().load();
    const std::int64_t n = std::min(count, most);
    if (n <= 1 || cost < kSerialCost || t_inside_task) {
        const FloatingPointState state;
        for (std::int64_t i = 0; i < count; ++i) {
            function(context, i);
        }
        return;
    }
    Job job(count, n, function, context);
#if defined(_OPENMP)
    if (!use_pool() && (!forced_backend().empty() || Clock::now() >= g_pool_until.load(std::memory_order_relaxed))) {
        run_on_openmp(job, n);
        job.rethrow_failure();
        return;
    }
#endif
    pool().run(job, n, most, cost >= kYieldCost);
    job.rethrow_failure();
}

void set_num_threads(std::int64_t count) {
    if (count < 1 || count > kMaxThreads) {
        throw InvalidArgument("n must be at least 1 and at most " + std::to_string(kMaxThreads) + ", got " +
                              std::to_string(count));
    }
    threads() = count;
}

void limit_host_threads(std::int64_t count) { g_host_threads = std::clamp<std::int64_t>(count, 1, kMaxThreads); }

std::string threading_backend() { return use_pool() ? "pool" : "openmp"; }

std::int64_t get_num_threads() { return threads(); }

std::int64_t threads_for_tasks() { return t_inside_task ? 1 : get_num_threads(); }

PreferBackend::PreferBackend(ThreadingBackend backend) : previous_(t_preferred) { t_preferred = backend; }
PreferBackend::~PreferBackend() { t_preferred = previous_; }

} // namespace fastconv
