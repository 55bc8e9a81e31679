// Memory that is kept for the next call when it is returned.
#pragma once

#include "fastconv/types.h"

#include <cstddef>

namespace fastconv {

/// Larger buffers go back to the system.
constexpr std::size_t most_kept_bytes = 128 << 20;

/// Uninitialised memory, aligned to cache lines. Throws std::bad_alloc.
FASTCONV_API void* take_memory(std::size_t bytes);
FASTCONV_API void return_memory(void* memory) noexcept;

} // namespace fastconv
