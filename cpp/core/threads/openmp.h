// The OpenMP backend of parallel_for.
#pragma once

#include <cstdint>

namespace fastconv {

class Job;

#if defined(_OPENMP)
inline constexpr bool kHasOpenmp = true;
#else
inline constexpr bool kHasOpenmp = false;
#endif

/// Runs the job on `threads` threads of OpenMP, and returns when all of them have left it.
void run_on_openmp(Job& job, std::int64_t threads);

/// Whether OpenMP's threads were late recently, so that the pool should run the next jobs. Always true without OpenMP.
bool openmp_was_late();

} // namespace fastconv
