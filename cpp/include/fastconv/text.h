// Joins the parts of a message. Streams would do the same, but a library that contains its own copy of the C++ library
// would grow by a quarter of a megabyte for them.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>
#include <type_traits>

namespace fastconv {

inline void append(std::string& text, std::string_view part) { text += part; }
inline void append(std::string& text, char part) { text += part; }
/// Six significant digits, as streams write them.
inline void append(std::string& text, double part) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%g", part);
    text += digits;
}
template <class Integer, std::enable_if_t<std::is_integral_v<Integer>, int> = 0>
void append(std::string& text, Integer part) {
    text += std::to_string(part);
}

template <class... Parts>
std::string joined(const Parts&... parts) {
    std::string text;
    (append(text, parts), ...);
    return text;
}

} // namespace fastconv
