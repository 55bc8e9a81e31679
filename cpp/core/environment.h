// The environment variables that set up the library.
#pragma once

#include "fastconv/threads.h"

#include <cstdint>
#include <optional>
#include <string>

namespace fastconv {

/// The values of the variables. An empty variable counts as not set.
struct Environment {
    Environment(); // throws InvalidArgument if a variable has a wrong value

    std::string isa;                           // FASTCONV_ISA; core/isa.h checks it
    bool winograd = true;                      // FASTCONV_WINOGRAD=0 switches the algorithm off, unless a call names it
    std::int64_t num_threads = 0;              // FASTCONV_NUM_THREADS, else OMP_NUM_THREADS; 0 if neither is set
    std::optional<ThreadingBackend> threading; // FASTCONV_THREADING
};

/// The environment. All variables are read and checked together, at the first use.
const Environment& environment();

/// Throws InvalidArgument. `expected` is the end of the message, such as "must be '0' or '1'".
[[noreturn]] void refuse_variable(const char* name, const std::string& value, const std::string& expected);

inline bool winograd_enabled() { return environment().winograd; }

/// All variables that switch algorithms on or off, as one number for the keys of plans.
inline std::int64_t environment_switches() { return winograd_enabled() ? 1 : 0; }

} // namespace fastconv
