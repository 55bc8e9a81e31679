#include "core/threads/cpus.h"

#include "core/environment.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace fastconv {
namespace {

/// The number of CPUs that the affinity mask allows.
std::int64_t cpus_in_mask() {
#if defined(__linux__)
    cpu_set_t mask;
    if (sched_getaffinity(0, sizeof mask, &mask) == 0) {
        return std::max(1, CPU_COUNT(&mask));
    }
#endif
    return std::max(1u, std::thread::hardware_concurrency());
}

/// The content of a small file, or nothing if it cannot be read. (fastconv/text.h says why this is no stream.)
std::string content(const std::string& path) {
    std::string text;
    if (std::FILE* file = std::fopen(path.c_str(), "r")) {
        char part[4096];
        for (std::size_t count; (count = std::fread(part, 1, sizeof part, file)) > 0;) text.append(part, count);
        std::fclose(file);
    }
    return text;
}

/// The CPU time that a control group may use, in CPUs and rounded up. 0 if the group has no limit. Version 2 writes
/// "max" for no limit, and version 1 writes -1.
std::int64_t group_quota(const std::string& directory, bool v2) {
    // Quota and period.
    const std::string numbers =
        v2 ? content(directory + "/cpu.max")
           : content(directory + "/cpu.cfs_quota_us") + content(directory + "/cpu.cfs_period_us");
    char* rest = nullptr;
    const double quota = std::strtod(numbers.c_str(), &rest), period = std::strtod(rest, nullptr);
    const double cpus = period > 0 ? std::ceil(quota / period) : 0;
    return cpus >= 1 && cpus < 1e6 ? static_cast<std::int64_t>(cpus) : 0;
}

/// The smaller of two quotas, where 0 means no limit.
std::int64_t tighter(std::int64_t a, std::int64_t b) { return a == 0 || b == 0 ? std::max(a, b) : std::min(a, b); }

/// The tightest CPU quota of this process's control group and of the groups that contain it; 0 if there is none. Inside
/// a container, the path of the group may not exist. The top directory is then that of the container.
std::int64_t cpu_quota() {
    std::int64_t tightest = 0;
    const std::string groups = content("/proc/self/cgroup");
    // Lines "0::/path" (version 2) and "4:cpu,cpuacct:/path" (version 1).
    for (std::size_t start = 0, end = 0; (end = groups.find('\n', start)) != std::string::npos; start = end + 1) {
        const std::string line = groups.substr(start, end - start);
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
            tightest = tighter(tightest, group_quota(root + path, v2));
            if (path.find('/') == std::string::npos) {
                break;
            }
        }
    }
    return tightest;
}

} // namespace

std::int64_t default_num_threads() {
    if (const std::int64_t value = environment().num_threads) {
        return value;
    }
    return std::min(tighter(cpus_in_mask(), cpu_quota()), kMaxThreads);
}

int current_cpu() {
#if defined(__linux__)
    return sched_getcpu();
#else
    return -1;
#endif
}

void leave_cpu(int cpu) {
#if defined(__linux__)
    cpu_set_t allowed;
    if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        return;
    }
    cpu_set_t others = allowed;
    CPU_CLR(cpu, &others);
    if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others) != 0) {
        return;
    }
    // During the move, another process may change which CPUs this thread may use, as taskset does. Such a change must
    // not be undone. The system cannot compare and set in one call, so a change between the next two calls is still
    // lost.
    cpu_set_t now;
    if (sched_getaffinity(0, sizeof now, &now) == 0 && CPU_EQUAL(&now, &others)) {
        sched_setaffinity(0, sizeof allowed, &allowed);
    }
#else
    (void)cpu;
#endif
}

} // namespace fastconv
