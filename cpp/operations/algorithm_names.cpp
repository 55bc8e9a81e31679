#include "fastconv/convolution.h"

namespace fastconv {

const std::vector<std::string>& algorithm_names() {
    static const std::vector<std::string> names{"auto", "direct", "winograd"};
    return names;
}

} // namespace fastconv
