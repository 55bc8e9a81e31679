// The cache of plans. A plan holds every decision about a call, for the next call of the same kind.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

namespace fastconv {

/// All decisions about a call. A plan never changes, and any number of threads may run it at once.
class Plan {
  public:
    Plan() = default;
    virtual ~Plan() = default;
    Plan(const Plan&) = delete;
    Plan& operator=(const Plan&) = delete;
};
using PlanPointer = std::shared_ptr<const Plan>;

/// The key of a plan in the cache: numbers that hold everything that the plan's decisions depend on.
class PlanKey {
  public:
    template <class... Numbers>
    void add(Numbers... numbers) {
        static_assert(sizeof...(numbers) <= kMost);
        ((values_[count_++] = static_cast<std::int64_t>(numbers)), ...);
    }
    bool operator==(const PlanKey& other) const {
        return count_ == other.count_ && std::memcmp(values_, other.values_, count_ * sizeof values_[0]) == 0;
    }
    std::uint64_t hash() const;

  private:
    static constexpr std::size_t kMost = 40;
    std::size_t count_ = 0;
    std::int64_t values_[kMost];
};

/// The plan of this key, or null. The cache is bounded, so a plan that has not been used for a while may be gone.
PlanPointer find_plan(const PlanKey& key);
void keep_plan(const PlanKey& key, const PlanPointer& plan);
/// The number of plans that this process has made.
std::int64_t plans_made();

/// The plan of this key. Calls `make` if the cache does not hold the plan. Two threads may make the same plan at once.
template <class Make>
PlanPointer cached_plan(const PlanKey& key, Make&& make) {
    PlanPointer plan = find_plan(key);
    if (plan == nullptr) {
        plan = make();
        keep_plan(key, plan);
    }
    return plan;
}

/// The plan of the last call. Packed filters and TensorFlow's kernels hold a KeptPlan, because they repeat the same
/// call. Any number of threads may use a KeptPlan at once. A thread that finds it busy asks the cache instead.
class KeptPlan {
  public:
    template <class Make>
    PlanPointer get(const PlanKey& key, Make&& make) {
        if (busy_.test_and_set(std::memory_order_acquire)) return cached_plan(key, make);
        PlanPointer plan = key == key_ ? plan_ : nullptr; // the number of threads in the key may have changed
        busy_.clear(std::memory_order_release);
        if (plan != nullptr) return plan;
        plan = cached_plan(key, make);
        PlanPointer old = plan; // released outside the lock
        if (!busy_.test_and_set(std::memory_order_acquire)) {
            key_ = key;
            plan_.swap(old);
            busy_.clear(std::memory_order_release);
        }
        return plan;
    }

  private:
    std::atomic_flag busy_ = ATOMIC_FLAG_INIT; // if fork() leaves the flag set in a child, the child asks the cache
    PlanKey key_;
    PlanPointer plan_;
};

} // namespace fastconv
