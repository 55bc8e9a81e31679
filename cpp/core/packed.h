// Packed filters: filters in the order in which a kernel reads them, packed for one call or once for all calls.
#pragma once

#include "core/plan_cache.h"
#include "core/workspace.h"
#include "fastconv/convolution.h"

#include <array>
#include <atomic>
#include <cstdint>

namespace fastconv {

/// Everything that decides how filters are packed: start, sizes, strides and blocks. Equal keys give equal packed
/// values.
using PackKey = std::array<std::int64_t, 16>;

/// The packed forms of filters whose values never change: a list that only grows. It has no lock that fork() could
/// leave locked. If two threads need the same form at the same time, both pack it and one copy is kept.
class PackCache {
  public:
    PackCache() = default;
    ~PackCache();
    PackCache(const PackCache&) = delete;
    PackCache& operator=(const PackCache&) = delete;

    void* find(const PackKey& key) const noexcept; // null if this form is not packed yet
    /// Takes over `memory`, which came from take_constant_memory, and returns it. If another thread has added this form
    /// first, frees `memory` and returns that form.
    void* add(const PackKey& key, void* memory);
    std::int64_t count() const noexcept;
    /// The plans of the last calls with these filters.
    KeptPlan forward, input_gradient;

  private:
    struct Node;
    std::atomic<Node*> head_{nullptr};
};

template <class T>
class Packed {
  public:
    /// Takes the packed form from the cache. If the cache lacks the form or is null, calls pack(memory for `count`
    /// values).
    template <class Pack>
    Packed(PackCache* cache, const PackKey& key, std::int64_t count, Pack&& pack) {
        if (cache != nullptr) data_ = static_cast<T*>(cache->find(key));
        if (data_ != nullptr) return;
        const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
        data_ = static_cast<T*>(cache != nullptr ? take_constant_memory(bytes) : take_memory(bytes));
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
