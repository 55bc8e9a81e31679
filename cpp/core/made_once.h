// Objects that are made once for the process, at their first use.
#pragma once

#include <atomic>
#include <memory>

namespace fastconv {

/// An object that is made at its first use. Declare it at namespace scope.
///
/// A static variable in a function has a lock, which a fork() could leave locked in the child. This class has no lock.
/// If two threads make an object at the same time, one of the two objects is kept. It is never destroyed, because
/// operations may run while the process ends.
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

    /// For a forked child. The next call of get() makes a new object. The old object is not destroyed.
    void abandon() { made_ = nullptr; }

  private:
    std::atomic<T*> made_{nullptr};
};

} // namespace fastconv
