// The last few schedules of a program.
#pragma once

#include "network/schedule.h"

namespace fastconv::network {

/// A small table with a lock, which is held only while shapes are compared. A forked child may inherit the lock while
/// it is locked, and no thread would ever unlock it. Therefore the child starts with a new table.
class ScheduleCache {
  public:
    ScheduleCache() = default;
    ~ScheduleCache();
    ScheduleCache(const ScheduleCache&) = delete;
    ScheduleCache& operator=(const ScheduleCache&) = delete;

    /// The schedule for these shapes and this number of threads, or null if it is not kept.
    std::shared_ptr<const Schedule> find(const Shapes& inputs, std::int64_t threads);
    void keep(const Shapes& inputs, std::int64_t threads, std::shared_ptr<const Schedule> schedule);

  private:
    struct Table;
    Table& table();

    std::atomic<Table*> table_{nullptr};
};

} // namespace fastconv::network
