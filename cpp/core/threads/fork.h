// Support for children of fork(). In a child, only the thread that called fork() exists. A lock that another thread
// held stays locked for ever.
#pragma once

namespace fastconv {

/// Calls `function` in every child that this process, or a child of it, forks from now on. Returns false if there is no
/// memory for the registration. In the child of a process with several threads, only async-signal-safe operations are
/// allowed: `function` must not lock, allocate or free. It may store to a lock-free atomic.
///
/// Register when the library is loaded, in the initializer of a namespace-scope variable. State that is created later
/// is then covered from the start.
bool on_fork_in_child(void (*function)());

/// Whether this process was forked after it had loaded the library.
bool in_forked_child();

} // namespace fastconv
