// Checks the taps of a max pool's maxima, and gathers the values at these taps.
#include "algorithms/max_pool_taps.h"

#include "algorithms/pool_windows.h"
#include "core/for_type.h"
#include "core/threads/parallel_for.h"

#include <algorithm>
#include <string>

namespace fastconv {
namespace {

/// output[i] = the input's value at the tap of window i; 0 if taps[i] names no tap.
template <class T>
void gather(const PoolProblem& o, const std::uint8_t* taps, const void* from, void* to) {
    const bool nhwc = o.format == DataFormat::nhwc;
    const std::int64_t in = o.h * o.w * o.c, out = o.p * o.q * o.c;
    if (out == 0) return; // of any number of images
    parallel_for(o.n * o.p, static_cast<double>(o.n * out), [&](std::int64_t task) {
        const std::int64_t n = task / o.p, y0 = task % o.p;
        const T* input = static_cast<const T*>(from) + n * in;
        T* output = static_cast<T*>(to) + n * out;
        each_rectangle<T>(o, y0, y0 + 1, [&](const PoolRow<T>& row, std::int64_t y, std::int64_t x) {
            for (std::int64_t i = 0; i < row.pixels; ++i) {
                const std::int64_t pixel = y * o.q + x + i;
                for (std::int64_t c = 0; c < o.c; ++c) {
                    const std::int64_t tap = taps[n * out + pixel * o.c + c];
                    const std::int64_t at = tap < row.taps ? i * row.x_step + row.offsets[tap] + c : 0;
                    output[nhwc ? pixel * o.c + c : c * o.p * o.q + pixel] =
                        tap >= row.taps ? T{} : input[nhwc ? at : c * o.h * o.w + at / o.c];
                }
            }
        });
    });
}

} // namespace

void check_taps(const PoolProblem& o) {
    if (o.r > max_pool_taps / o.s)
        throw InvalidArgument("ksize must have at most " + std::to_string(max_pool_taps) + " pixels, got " +
                              std::to_string(o.r) + " x " + std::to_string(o.s) +
                              "; which one was the maximum is told in a byte");
}

void check_pool_of_output(const ConvProblem& problem, const PoolProblem& pool) {
    check_taps(pool);
    if (pool.format != problem.format)
        throw InvalidArgument("convolution and max-pooling must have the same data format");
    check_dims("the input of the max-pooling", pool.input_dims(), problem.output_dims(),
               "the output of the convolution");
}

void check_tap_numbers(const char* name, const PoolProblem& problem, const std::uint8_t* taps) {
    check_taps(problem);
    if (problem.p == 0 || problem.q == 0 || problem.c == 0) return; // of any number of images
    const auto check_rectangle = [&](std::int64_t n, const PoolRow<float>& row, std::int64_t y, std::int64_t x) {
        for (std::int64_t i = 0; i < row.rows; ++i) {
            const std::uint8_t* const first = taps + (((n * problem.p + y + i) * problem.q) + x) * problem.c;
            const std::uint8_t* const end = first + row.pixels * problem.c;
            std::uint8_t most = 0;
            for (const std::uint8_t* at = first; at < end; ++at) most = std::max(most, *at);
            if (first < end && most >= row.taps)
                throw InvalidArgument(std::string(name) + " must number the pixels of each pooling window, " +
                                      "from 0 on, got " + std::to_string(most) + " for one of " +
                                      std::to_string(row.taps) + " pixels; use what conv2d_max_pool2d returned");
        }
    };
    for (std::int64_t n = 0; n < problem.n; ++n)
        each_rectangle<float>(problem, 0, problem.p, [&](const PoolRow<float>& row, std::int64_t y, std::int64_t x) {
            check_rectangle(n, row, y, x);
        });
}

void max_pool2d_gather(const PoolProblem& problem, const std::uint8_t* taps, const void* values, void* output) {
    check_taps(problem);
    for_type(problem.dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        gather<T>(problem, taps, values, output);
    });
}

} // namespace fastconv
