// Errors about wrong arguments.
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

/// The text of a tuple, as Python writes it.
std::string show(const Dims& dims);

} // namespace fastconv
