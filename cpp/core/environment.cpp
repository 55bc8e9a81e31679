#include "core/environment.h"

#include <cstdlib>
#include <string>

namespace fastconv {

bool winograd_enabled() {
    static const bool enabled = [] {
        const char* value = std::getenv("FASTCONV_WINOGRAD");
        return value == nullptr || std::string(value) != "0";
    }();
    return enabled;
}

} // namespace fastconv
