#include "core/threads/fork.h"

#include <atomic>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace fastconv {
namespace {

std::atomic<bool> g_in_forked_child{false};

// Registered when the library is loaded. The first parallel_for would be too late, because other libraries may have
// used libgomp before.
const bool g_registered = on_fork_in_child([] { g_in_forked_child = true; });

} // namespace

bool on_fork_in_child(void (*function)()) {
#if defined(__unix__) || defined(__APPLE__)
    return pthread_atfork(nullptr, nullptr, function) == 0;
#else
    (void)function;
    return true;
#endif
}

bool in_forked_child() { return g_in_forked_child; }

} // namespace fastconv
