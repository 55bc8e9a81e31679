// The two backends of parallel_for, the thread count, and what fork() does to them.
//
// OpenMP is the default. libgomp keeps one pool for each calling thread and its pool does not survive fork(), so the
// second backend, one pool for the process, serves callers that come from many threads, and every forked child.
#include "core/threading.h"

#include "core/floating_point_state.h"
#include "fastconv/fastconv.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

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

// libgomp ends the process when the system refuses it a thread, so absurd numbers must not reach it.
constexpr std::int64_t kMaxThreads = 1024;

struct Job {
    std::int64_t count;
    TaskFunction function;
    void* context;
    std::atomic<std::int64_t> next{0};
    std::int64_t helpers = 0;      // workers inside, under the pool's mutex
    std::int64_t most_helpers = 0; // the pool may have more workers, from when more threads were allowed

    void work() {
        const FloatingPointState state;
        for (std::int64_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) {
            function(context, i);
        }
    }
};

// Workers sleep on one condition variable and help whichever job is open; the caller takes part in its own.
class Pool {
  public:
    void run(Job& job, std::int64_t threads) {
        job.most_helpers = threads - 1;
        std::unique_lock<std::mutex> lock(mutex_);
        try {
            while (workers_ < job.most_helpers) {
                std::thread([this] { serve(); }).detach();
                ++workers_;
            }
        } catch (const std::system_error&) {
            // The system refuses a thread: the caller and the workers that there are do the work.
        }
        jobs_.push_back(&job);
        lock.unlock();
        wake_.notify_all();
        job.work();
        lock.lock();
        jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
        done_.wait(lock, [&] { return job.helpers == 0; });
    }

  private:
    void serve() {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            Job* job = nullptr;
            wake_.wait(lock, [&] { return (job = open_job()) != nullptr; });
            ++job->helpers;
            lock.unlock();
            job->work();
            lock.lock();
            if (--job->helpers == 0) {
                done_.notify_all();
            }
        }
    }

    Job* open_job() {
        for (Job* job : jobs_) {
            if (job->helpers < job->most_helpers && job->next.load(std::memory_order_relaxed) < job->count) {
                return job;
            }
        }
        return nullptr;
    }

    std::mutex mutex_;
    std::condition_variable wake_, done_;
    std::vector<Job*> jobs_;
    std::int64_t workers_ = 0;
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

bool use_pool() {
#if defined(_OPENMP)
    static const std::string forced = std::getenv("FASTCONV_THREADING") ? std::getenv("FASTCONV_THREADING") : "";
    if (!forced.empty() && forced != "openmp" && forced != "pool") {
        throw InvalidArgument("the environment variable FASTCONV_THREADING is '" + forced +
                              "', but must be 'openmp' or 'pool'");
    }
    return g_forked || forced == "pool" || (forced.empty() && t_preferred == ThreadingBackend::pool);
#else
    return true;
#endif
}

} // namespace

void run_tasks(std::int64_t count, double cost, TaskFunction function, void* context) {
    const std::int64_t n = std::min(count, threads().load());
    if (n <= 1 || cost < kSerialCost) {
        const FloatingPointState state;
        for (std::int64_t i = 0; i < count; ++i) {
            function(context, i);
        }
        return;
    }
    Job job;
    job.count = count;
    job.function = function;
    job.context = context;
#if defined(_OPENMP)
    if (!use_pool()) {
#pragma omp parallel num_threads(static_cast<int>(n))
        job.work();
        return;
    }
#endif
    pool().run(job, n);
}

void set_num_threads(std::int64_t count) {
    if (count < 1 || count > kMaxThreads) {
        throw InvalidArgument("n must be at least 1 and at most " + std::to_string(kMaxThreads) + ", got " +
                              std::to_string(count));
    }
    threads() = count;
}

std::string threading_backend() { return use_pool() ? "pool" : "openmp"; }

std::int64_t get_num_threads() { return threads(); }

PreferBackend::PreferBackend(ThreadingBackend backend) : previous_(t_preferred) { t_preferred = backend; }
PreferBackend::~PreferBackend() { t_preferred = previous_; }

} // namespace fastconv
