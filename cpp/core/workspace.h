// Scratch memory, aligned to cache lines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace fastconv {

/// Memory for `count` values of T, uninitialised. A thread can hold several at once.
template <class T>
class Scratch {
  public:
    explicit Scratch(std::int64_t count) {
        constexpr std::align_val_t line{64};
        data_ = static_cast<T*>(::operator new(static_cast<std::size_t>(count < 1 ? 1 : count) * sizeof(T), line));
    }
    ~Scratch() { ::operator delete(data_, std::align_val_t{64}); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    T* get() const { return data_; }

  private:
    T* data_;
};

} // namespace fastconv
