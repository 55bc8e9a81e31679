// Scratch memory, aligned to cache lines. Fresh pages cost about 0.25 us per 4 KB, often more than a small convolution.
// Buffers are therefore kept for the next call: small ones by each thread, large ones by the process.
#pragma once

#include "fastconv/memory.h"

#include <cstddef>
#include <cstdint>

namespace fastconv {

/// As take_memory, for values that many calls read, such as packed filters. Asks for huge pages, because each call
/// reads large filters from memory, and each small page costs a TLB miss.
void* take_constant_memory(std::size_t bytes);

/// Memory for `count` values of T, uninitialised.
template <class T>
class Scratch {
  public:
    explicit Scratch(std::int64_t count)
        : data_(static_cast<T*>(take_memory(static_cast<std::size_t>(count) * sizeof(T)))) {}
    ~Scratch() { return_memory(data_); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    T* get() const { return data_; }

  private:
    T* data_;
};

} // namespace fastconv
