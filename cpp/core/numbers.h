// Integer arithmetic that planning needs everywhere.
#pragma once

#include "core/for_type.h"
#include "fastconv/types.h"

#include <cstdint>

namespace fastconv {

inline std::int64_t size_of(DataType type) {
    return for_type(type, [](auto t) { return static_cast<std::int64_t>(sizeof(typename decltype(t)::type)); });
}
inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
/// The start of part `i`, if `size` is cut into `parts` nearly equal parts.
inline std::int64_t part_start(std::int64_t i, std::int64_t parts, std::int64_t size) { return i * size / parts; }

} // namespace fastconv
