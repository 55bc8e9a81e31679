// Objects that the process makes at their first use.
#pragma once

#include <atomic>
#include <memory>

namespace fastconv {

/// An object that is made at its first use, in a variable at namespace scope.
///
/// No lock guards the first use, as it does for a static variable of a function: a fork() could leave it locked in the
/// child. Two threads may both make an object, and one of the two is kept. It is never destroyed, because operations
/// may run while the process ends.
template <class T>
class MadeOnce {
  public:
    /// `make` returns a std::unique_ptr<T>. If it throws, the next call tries again.
    template <class Make>
    T& get(Make&& make) {
        T* made = made_.load(std::memory_order_acquire);
        if (made != nullptr) return *made;
        std::unique_ptr<T> fresh = make();
        return made_.compare_exchange_strong(made, fresh.get()) ? *fresh.release() : *made;
    }
    T& get() {
        return get([] { return std::make_unique<T>(); });
    }

    /// The next call makes another object, and this one stays as it is. For a forked child.
    void abandon() { made_ = nullptr; }

  private:
    std::atomic<T*> made_{nullptr};
};

} // namespace fastconv
