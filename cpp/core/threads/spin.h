// Busy waiting, for times that are shorter than going to sleep and waking up.
#pragma once

#include "core/cpu_state.h"

#include <atomic>
#include <chrono>
#include <thread>

namespace fastconv {

/// The number of pauses between two readings of the clock, or between two yields.
inline constexpr int kPausesInARow = 32;

/// Waits until `ready` returns true, but at most for `limit`. Returns the last result of `ready`. With `yields`, other
/// threads may use the CPU meanwhile, such as a framework's thread that starts a matrix product after our operation.
template <class Ready>
bool spin_until(std::chrono::microseconds limit, bool yields, Ready ready) {
    const auto end = std::chrono::steady_clock::now() + limit;
    do {
        for (int i = 0; i < kPausesInARow; ++i) {
            if (ready()) {
                return true;
            }
            cpu_pause();
        }
        if (yields) {
            std::this_thread::yield();
        }
    } while (std::chrono::steady_clock::now() < end);
    return ready();
}

/// A lock to hold for a few instructions. A thread that waits for a mutex goes to sleep instead. If a framework's
/// threads are waiting for a CPU, the sleeping thread gets one only hundreds of microseconds later.
class SpinLock {
  public:
    void lock() {
        for (int tries = 1; taken_.test_and_set(std::memory_order_acquire); ++tries) {
            if (tries % kPausesInARow == 0) {
                std::this_thread::yield(); // the thread that holds the lock may need this CPU
            } else {
                cpu_pause();
            }
        }
    }
    void unlock() { taken_.clear(std::memory_order_release); }

  private:
    std::atomic_flag taken_ = ATOMIC_FLAG_INIT;
};

} // namespace fastconv
