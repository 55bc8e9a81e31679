#include "core/environment.h"

#include "core/made_once.h"
#include "core/threads/cpus.h"
#include "core/threads/openmp.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstdlib>

namespace fastconv {
namespace {

std::string value_of(const char* name) {
    const char* value = std::getenv(name);
    return value != nullptr ? value : "";
}

std::int64_t read_num_threads() {
    constexpr const char* name = "FASTCONV_NUM_THREADS";
    const std::string text = value_of(name);
    if (text.empty()) return 0;
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{} || end != text.data() + text.size() || number < 1 || number > kMaxThreads)
        refuse_variable(name, text, "must be a number from 1 to " + std::to_string(kMaxThreads));
    return number;
}

/// The first number of OMP_NUM_THREADS, which may be a list. 0 if the variable is not a list of positive numbers,
/// because OpenMP then ignores it.
std::int64_t read_openmp_num_threads() {
    const std::string list = value_of("OMP_NUM_THREADS");
    std::int64_t first = 0;
    for (const char* at = list.c_str();; ++at) {
        char* end = nullptr;
        errno = 0;
        const long number = std::strtol(at, &end, 10); // skips white space
        if (end == at || errno != 0 || number < 1) return 0;
        if (first == 0) first = number;
        at = end;
        while (std::isspace(static_cast<unsigned char>(*at)) != 0) ++at;
        if (*at == '\0') return std::min(first, kMaxThreads);
        if (*at != ',') return 0;
    }
}

bool read_winograd() {
    constexpr const char* name = "FASTCONV_WINOGRAD";
    const std::string text = value_of(name);
    if (!text.empty() && text != "0" && text != "1") refuse_variable(name, text, "must be '0' or '1'");
    return text != "0";
}

std::optional<ThreadingBackend> read_threading() {
    constexpr const char* name = "FASTCONV_THREADING";
    const std::string text = value_of(name);
    if (text.empty()) return std::nullopt;
    if (text == "pool") return ThreadingBackend::pool;
    if (kHasOpenmp && text == "openmp") return ThreadingBackend::openmp;
    refuse_variable(name, text, kHasOpenmp ? "must be 'openmp' or 'pool'" : "this build supports only 'pool'");
}

MadeOnce<const Environment> g_environment;

} // namespace

Environment::Environment()
    : isa(value_of("FASTCONV_ISA")), winograd(read_winograd()), num_threads(read_num_threads()),
      threading(read_threading()) {
    if (num_threads == 0) num_threads = read_openmp_num_threads();
}

const Environment& environment() { return g_environment.get(); }

void refuse_variable(const char* name, const std::string& value, const std::string& expected) {
    throw InvalidArgument("the environment variable " + std::string(name) + " is '" + value + "', but " + expected);
}

} // namespace fastconv
