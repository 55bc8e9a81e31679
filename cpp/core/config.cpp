// The values that show_config() returns.
#include "core/isa.h"
#include "core/plan_cache.h"
#include "core/threads/openmp.h"
#include "core/threads/parallel_for.h"
#include "fastconv/threads.h"

namespace fastconv {

Config config() {
    Config result;
    result.version = FASTCONV_VERSION;
#if defined(__clang__)
    result.compiler = "Clang " __clang_version__;
#else
    result.compiler = "GCC " __VERSION__;
#endif
    result.isa = isa_in_use();
    result.isa_available = isa_available();
    result.threads = get_num_threads();
    result.threading = threading_backend();
    if (kHasOpenmp) result.threading_available.emplace_back("openmp");
    result.threading_available.emplace_back("pool");
    result.plans_made = plans_made();
    return result;
}

} // namespace fastconv
