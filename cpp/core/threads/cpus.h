// The CPUs that this process may use, and the one that a thread runs on.
#pragma once

#include <cstdint>

namespace fastconv {

/// FASTCONV_NUM_THREADS, else OMP_NUM_THREADS, else the number of CPUs that this process may use. At least 1.
std::int64_t default_num_threads();

/// The CPU that the calling thread runs on; -1 if the system does not tell.
int current_cpu();

/// Moves the calling thread from `cpu` to another CPU, if it may use one.
void leave_cpu(int cpu);

} // namespace fastconv
