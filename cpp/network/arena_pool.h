// The arenas of a schedule. Each call in flight has one arena. Arenas are kept for the next calls.
#pragma once

#include "core/workspace.h"

#include <atomic>

namespace fastconv::network {

/// Slots are exchanged atomically, so there is no lock that fork() could leave locked in a child.
class ArenaPool {
  public:
    ArenaPool() = default;
    ~ArenaPool() {
        for (std::atomic<void*>& slot : slots_)
            if (void* memory = slot.load()) return_memory(memory);
    }
    ArenaPool(const ArenaPool&) = delete;
    ArenaPool& operator=(const ArenaPool&) = delete;

    void* take(std::size_t bytes) {
        for (std::atomic<void*>& slot : slots_) {
            if (slot.load(std::memory_order_relaxed) == nullptr) continue;
            if (void* memory = slot.exchange(nullptr, std::memory_order_acquire)) return memory;
        }
        return take_memory(bytes);
    }

    void give_back(void* memory) noexcept {
        for (std::atomic<void*>& slot : slots_) {
            void* empty = nullptr;
            if (slot.compare_exchange_strong(empty, memory, std::memory_order_release)) return;
        }
        return_memory(memory);
    }

  private:
    std::atomic<void*> slots_[64] = {};
};

/// The arena of one call.
class Arena {
  public:
    Arena(ArenaPool& pool, std::size_t bytes) : pool_(pool), memory_(bytes > 0 ? pool.take(bytes) : nullptr) {}
    ~Arena() {
        if (memory_ != nullptr) pool_.give_back(memory_);
    }
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;

    void* get() const { return memory_; }

  private:
    ArenaPool& pool_;
    void* memory_;
};

} // namespace fastconv::network
