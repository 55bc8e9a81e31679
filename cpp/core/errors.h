// Errors about wrong arguments.
#pragma once

#include "fastconv/text.h"
#include "fastconv/types.h"

#include <string>

namespace fastconv {

/// Throws InvalidArgument with the parts as its text.
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
    throw InvalidArgument(joined(parts...));
}

/// The text of a tuple, as Python writes it.
std::string show(const Dims& dims);

} // namespace fastconv
