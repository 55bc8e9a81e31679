// Filters in the order in which a kernel reads them: packed for one call, or once for filters that stay.
#pragma once

#include "core/plan_cache.h"
#include "core/workspace.h"
#include "fastconv/convolution.h"

#include <array>
#include <atomic>
#include <cstdint>

namespace fastconv {

/// All that decides how filters are packed: where they start, sizes, strides, blocks. Equal keys give equal values.
using PackKey = std::array<std::int64_t, 16>;

/// The packed forms of filters whose values never change. A list that only grows, without a lock that fork() could
/// leave locked: two threads that pack the same at the same time both do it, and one copy is kept.
class PackCache {
  public:
    PackCache() = default;
    ~PackCache();
    PackCache(const PackCache&) = delete;
    PackCache& operator=(const PackCache&) = delete;

    void* find(const PackKey& key) const noexcept; // null if there is none yet
    /// Takes the memory (of take_memory) and returns it, or what another thread added first.
    void* add(const PackKey& key, void* memory);
    std::int64_t count() const noexcept;
    /// The plan of the last call with these filters, of each direction that takes some.
    KeptPlan forward, input_gradient;

  private:
    struct Node;
    std::atomic<Node*> head_{nullptr};
};

template <class T>
class Packed {
  public:
    /// Calls pack(memory for `count` values) unless the cache (may be null) has it.
    template <class Pack>
    Packed(PackCache* cache, const PackKey& key, std::int64_t count, Pack&& pack) {
        if (cache != nullptr) data_ = static_cast<T*>(cache->find(key));
        if (data_ != nullptr) return;
        data_ = static_cast<T*>(take_memory(static_cast<std::size_t>(count) * sizeof(T)));
        own_ = true;
        try {
            pack(data_);
            if (cache != nullptr) {
                data_ = static_cast<T*>(cache->add(key, data_));
                own_ = false;
            }
        } catch (...) {
            return_memory(data_);
            throw;
        }
    }
    ~Packed() {
        if (own_) return_memory(data_);
    }
    Packed(const Packed&) = delete;
    Packed& operator=(const Packed&) = delete;

    const T* get() const { return data_; }

  private:
    T* data_ = nullptr;
    bool own_ = false;
};

} // namespace fastconv
