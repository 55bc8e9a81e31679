#include "network/schedule_cache.h"

#include "core/threads/fork.h"
#include "core/threads/spin.h"

#include <algorithm>
#include <mutex>
#include <utility>

namespace fastconv::network {
namespace {

constexpr std::size_t kKept = 8; // enough for batches of a few sizes, and for the smaller last batch of `predict`

std::atomic<std::uint32_t> g_forks{0}; // the number of forks between the process that loaded the library and this one
const bool g_registered = on_fork_in_child([] { g_forks.fetch_add(1); });

struct Entry {
    Shapes inputs;
    std::int64_t threads = 0;
    std::shared_ptr<const Schedule> schedule;
    std::uint64_t used = 0;
};

} // namespace

struct ScheduleCache::Table {
    const std::uint32_t forks = g_forks;
    SpinLock lock;
    std::uint64_t clock = 0;
    Entry entries[kKept];
};

ScheduleCache::~ScheduleCache() { delete table_.load(); }

ScheduleCache::Table& ScheduleCache::table() {
    Table* table = table_.load(std::memory_order_acquire);
    if (table != nullptr && table->forks == g_forks.load(std::memory_order_relaxed)) return *table;
    auto fresh = std::make_unique<Table>();
    // The table of the parent is not freed: during the fork, another thread may have been changing it.
    return table_.compare_exchange_strong(table, fresh.get()) ? *fresh.release() : *table;
}

std::shared_ptr<const Schedule> ScheduleCache::find(const Shapes& inputs, std::int64_t threads) {
    Table& kept = table();
    const std::lock_guard<SpinLock> guard(kept.lock);
    for (Entry& entry : kept.entries) {
        if (entry.schedule == nullptr || entry.threads != threads || entry.inputs != inputs) continue;
        entry.used = ++kept.clock;
        return entry.schedule;
    }
    return nullptr;
}

void ScheduleCache::keep(const Shapes& inputs, std::int64_t threads, std::shared_ptr<const Schedule> schedule) {
    Shapes shapes = inputs;
    Table& kept = table();
    const std::lock_guard<SpinLock> guard(kept.lock);
    const auto older = [](const Entry& a, const Entry& b) { return a.used < b.used; };
    Entry& oldest = *std::min_element(std::begin(kept.entries), std::end(kept.entries), older);
    oldest.inputs.swap(shapes); // the old shapes and the old schedule are destroyed after the lock is released
    oldest.schedule.swap(schedule);
    oldest.threads = threads;
    oldest.used = ++kept.clock;
}

} // namespace fastconv::network
