// A table of plans, divided into small sets. Each set has a lock, which is held only while a few keys are compared.
#include "core/plan_cache.h"

#include "core/made_once.h"
#include "core/threads/fork.h"
#include "core/threads/spin.h"

#include <atomic>
#include <mutex>
#include <utility>

namespace fastconv {
namespace {

constexpr std::size_t kSets = 64, kWays = 8; // 512 plans of about 1 KB each

struct Entry {
    std::uint64_t hash = 0, used = 0; // used: when the plan was last used, by the clock of its set
    PlanKey key;
    PlanPointer plan;
};

class Set {
  public:
    PlanPointer find(std::uint64_t hash, const PlanKey& key) {
        const std::lock_guard<SpinLock> guard(lock_);
        for (Entry& entry : entries_) {
            if (entry.hash != hash || entry.plan == nullptr || !(entry.key == key)) continue;
            entry.used = ++clock_;
            return entry.plan;
        }
        return nullptr;
    }

    void keep(std::uint64_t hash, const PlanKey& key, PlanPointer plan) {
        const std::lock_guard<SpinLock> guard(lock_);
        Entry* oldest = entries_;
        for (Entry& entry : entries_)
            if (entry.used < oldest->used) oldest = &entry;
        oldest->hash = hash;
        oldest->used = ++clock_;
        oldest->key = key;
        oldest->plan.swap(plan); // the old plan is released after the lock
    }

  private:
    SpinLock lock_;
    std::uint64_t clock_ = 0;
    Entry entries_[kWays];
};

struct Cache {
    Set sets[kSets];
    Set& set_of(std::uint64_t hash) { return sets[hash % kSets]; }
};

// It is never destroyed, because operations may run while the process ends. A forked child may inherit a locked lock
// that no thread will unlock. The child therefore starts with a new table.
MadeOnce<Cache> g_cache;
std::atomic<std::int64_t> g_made{0};

const bool g_registered = on_fork_in_child([] { g_cache.abandon(); });

} // namespace

std::uint64_t PlanKey::hash() const {
    // Two chains of multiplications, as in wyhash. Only speed and spread matter, because the keys are compared, too.
    std::uint64_t a = 0x9E3779B97F4A7C15u, b = 0xC2B2AE3D27D4EB4Fu;
    for (std::size_t i = 0; i + 1 < count_; i += 2) {
        a = (a ^ static_cast<std::uint64_t>(values_[i])) * 0xFF51AFD7ED558CCDu;
        b = (b ^ static_cast<std::uint64_t>(values_[i + 1])) * 0xC4CEB9FE1A85EC53u;
        a ^= a >> 32;
        b ^= b >> 32;
    }
    if (count_ % 2 != 0) a = (a ^ static_cast<std::uint64_t>(values_[count_ - 1])) * 0xFF51AFD7ED558CCDu;
    const std::uint64_t sum = (a ^ (b + (a << 6))) * 0x9FB21C651E98DF25u;
    return sum ^ (sum >> 29);
}

PlanPointer find_plan(const PlanKey& key) {
    const std::uint64_t hash = key.hash();
    return g_cache.get().set_of(hash).find(hash, key);
}

void keep_plan(const PlanKey& key, const PlanPointer& plan) {
    ++g_made;
    const std::uint64_t hash = key.hash();
    g_cache.get().set_of(hash).keep(hash, key, plan);
}

std::int64_t plans_made() { return g_made; }

} // namespace fastconv
