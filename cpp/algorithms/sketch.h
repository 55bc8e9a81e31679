// What a planned call is made of, for explain().
#pragma once

#include <cstdint>
#include <string>

namespace fastconv {

struct Sketch {
    std::string kernel;
    std::int64_t tile_pixels = 0, tile_filters = 0, tasks = 0;
    std::int64_t shared_bytes = 0, thread_bytes = 0; // scratch memory of the call, and of each of its threads
    double multiplications = 0;
};

} // namespace fastconv
