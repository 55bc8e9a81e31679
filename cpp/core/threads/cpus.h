// The CPUs that this process may use, and the one that a thread runs on.
#pragma once

#include <cstdint>

namespace fastconv {

/// libgomp ends the process if the system cannot create a thread, so absurd numbers must not reach it.
inline constexpr std::int64_t kMaxThreads = 1024;

/// The number of threads that the environment sets, or else the number of CPUs that this process may use. From 1 to
/// kMaxThreads.
std::int64_t default_num_threads();

/// The CPU that the calling thread runs on; -1 if the system does not say.
int current_cpu();

/// Moves the calling thread from `cpu` to another CPU, if it may use another one. If another process changes the
/// thread's CPU affinity in the meantime, that change is kept.
void leave_cpu(int cpu);

} // namespace fastconv
