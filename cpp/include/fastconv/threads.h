// Threads and configuration.
#pragma once

#include "fastconv/types.h"

namespace fastconv {

FASTCONV_API void set_num_threads(std::int64_t count); // throws InvalidArgument unless count is from 1 to 1024
FASTCONV_API std::int64_t get_num_threads();

/// For a host with thread settings of its own: calls that prefer the pool use at most `count` threads, even if
/// set_num_threads allows more.
FASTCONV_API void limit_host_threads(std::int64_t count);

enum class ThreadingBackend : std::uint8_t { openmp, pool };

/// While this object lives, calls from its thread run on `backend`, unless FASTCONV_THREADING names the other backend.
class FASTCONV_API PreferBackend {
  public:
    explicit PreferBackend(ThreadingBackend backend);
    ~PreferBackend();
    PreferBackend(const PreferBackend&) = delete;
    PreferBackend& operator=(const PreferBackend&) = delete;

  private:
    ThreadingBackend previous_;
};

struct Config {
    std::string version, compiler, isa, threading;
    std::vector<std::string> isa_available, threading_available;
    std::int64_t threads;
    std::int64_t plans_made; // how many plans this process has made so far
};
FASTCONV_API Config config();

} // namespace fastconv
