// How the core refuses an argument.
#pragma once

#include "fastconv/types.h"

#include <sstream>
#include <string>

namespace fastconv {

/// Throws InvalidArgument with the parts as its text.
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
    std::ostringstream text;
    (text << ... << parts);
    throw InvalidArgument(text.str());
}

/// As Python shows a tuple.
std::string show(const Dims& dims);

} // namespace fastconv
