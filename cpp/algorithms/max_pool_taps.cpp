// Checks the taps of maxima, and gathers the values at these taps.
#include "algorithms/max_pool_taps.h"

#include "algorithms/pool_windows.h"
#include "core/errors.h"
#include "core/for_type.h"
#include "core/numbers.h"
#include "core/threads/parallel_for.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <string>

namespace fastconv {
namespace {

/// output[i] = the input value at tap taps[i] of window i, or 0 if there is no such tap.
template <class T>
void gather(const PoolProblem& o, const std::uint8_t* taps, const void* from, void* to) {
    const bool nhwc = o.format == DataFormat::nhwc;
    const std::int64_t in = o.h * o.w * o.c, out = o.p * o.q * o.c;
    if (out == 0) return; // otherwise empty images would become tasks
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

constexpr std::int64_t kCheckedTaps = 64 << 10; // taps that a task checks
constexpr double kTapsPerOperation = 16;        // taps that one instruction compares

struct WrongTap {
    std::int64_t tap, pixels; // the wrong number, and the pixels of its window
};

/// The first wrong tap of output rows [y0, y0 + rows) of image n, if there is one.
std::optional<WrongTap> find_wrong_tap(const PoolProblem& o, const std::uint8_t* taps, std::int64_t n, std::int64_t y0,
                                       std::int64_t rows) {
    std::optional<WrongTap> found;
    each_rectangle<float>(o, y0, std::min(o.p, y0 + rows),
                          [&](const PoolRow<float>& row, std::int64_t y, std::int64_t x) {
                              for (std::int64_t i = 0; i < row.rows && !found; ++i) {
                                  const std::uint8_t* const first = taps + (((n * o.p + y + i) * o.q) + x) * o.c;
                                  const std::uint8_t* const end = first + row.pixels * o.c;
                                  std::uint8_t most = 0;
                                  for (const std::uint8_t* at = first; at < end; ++at) most = std::max(most, *at);
                                  if (first < end && most >= row.taps) found = WrongTap{most, row.taps};
                              }
                          });
    return found;
}

} // namespace

void check_taps(const PoolProblem& o, const char* ksize_name) {
    if (o.r > max_pool_taps / o.s)
        throw InvalidArgument(std::string(ksize_name) + " must be a window of at most " +
                              std::to_string(max_pool_taps) +
                              " pixels, because the place of a maximum is stored in one byte; got " +
                              std::to_string(o.r) + " x " + std::to_string(o.s));
}

void check_plain_pooling(const PoolProblem& o) {
    const auto reaches_beyond = [](std::int64_t outputs, std::int64_t stride, std::int64_t window,
                                   std::int64_t padded) {
        return outputs > 0 && (outputs - 1) * stride > padded - window;
    };
    if (o.adaptive || o.dilation_h != 1 || o.dilation_w != 1 ||
        reaches_beyond(o.p, o.stride_h, o.r, o.h + o.pad_top + o.pad_bottom) ||
        reaches_beyond(o.q, o.stride_w, o.s, o.w + o.pad_left + o.pad_right))
        throw InvalidArgument("the max-pooling after a convolution must have no dilations, ceil_mode or output_size; "
                              "call the convolution and the pooling separately");
}

void check_pool_of_output(const ConvProblem& problem, const PoolProblem& pool) {
    check_taps(pool, "pool_size");
    check_plain_pooling(pool);
    if (pool.format != problem.format)
        throw InvalidArgument("convolution and max-pooling must have the same data format");
    check_dims("the input of the max-pooling", pool.input_dims(), problem.output_dims(),
               "the output of the convolution");
}

void check_tap_numbers(const char* name, const PoolProblem& problem, const std::uint8_t* taps) {
    check_taps(problem);
    if (problem.p == 0 || problem.q == 0 || problem.c == 0) return; // otherwise empty images would become tasks
    const std::int64_t row_taps = problem.q * problem.c;
    const std::int64_t rows = std::clamp<std::int64_t>(kCheckedTaps / row_taps, 1, problem.p);
    const std::int64_t strips = ceil_div(problem.p, rows), tasks = problem.n * strips;
    std::atomic<std::int64_t> wrong{tasks}; // the first task that found a wrong tap: the same for any number of threads
    parallel_for(tasks, static_cast<double>(problem.n * problem.p * row_taps) / kTapsPerOperation, [&](auto task) {
        const std::int64_t y0 = task % strips * rows;
        if (task > wrong || !find_wrong_tap(problem, taps, task / strips, y0, rows)) return;
        for (std::int64_t first = wrong; task < first && !wrong.compare_exchange_weak(first, task);) {
        }
    });
    if (wrong == tasks) return;
    const auto found = find_wrong_tap(problem, taps, wrong / strips, wrong % strips * rows, rows);
    if (!found) return; // the caller has changed the taps in the meantime, from another thread
    fail(name, " must be pixel numbers within each pooling window, counted from 0, got ", found->tap,
         " for a window of ", found->pixels, found->pixels == 1 ? " pixel" : " pixels",
         "; pass what conv2d_max_pool2d returned");
}

void max_pool2d_gather(const PoolProblem& problem, const std::uint8_t* taps, const void* values, void* output) {
    check_taps(problem);
    for_type(problem.dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        gather<T>(problem, taps, values, output);
    });
}

} // namespace fastconv
