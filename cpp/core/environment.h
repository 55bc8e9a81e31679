// The environment variables that switch algorithms, read once.
#pragma once

#include <cstdint>

namespace fastconv {

/// FASTCONV_WINOGRAD=0 switches Winograd's algorithm off, unless a call names it.
bool winograd_enabled();

/// All switches as a number, for the keys of plans.
inline std::int64_t environment_switches() { return winograd_enabled() ? 1 : 0; }

} // namespace fastconv
