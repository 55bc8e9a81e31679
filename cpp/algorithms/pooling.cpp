// Max and average pooling. A task computes a few rows of an output image, reading every tap of every window. For large
// windows, there is a faster form (separable_pooling.cpp).
#include "fastconv/pooling.h"
#include "algorithms/max_pool_taps.h"
#include "algorithms/pool_windows.h"
#include "algorithms/separable_pooling.h"
#include "core/for_type.h"
#include "core/isa.h"
#include "core/layout.h"
#include "core/numbers.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"

#include <algorithm>

namespace fastconv {
namespace {

/// Where a max pool writes the places of its maxima. Each pointer may be null.
struct ArgmaxOutputs {
    std::int64_t* argmax = nullptr;
    bool include_batch = false;
    std::uint8_t* taps = nullptr; // a tap's number among the taps inside the input
};

template <class T>
void pool_nhwc(const PoolProblem& o, const T* input, T* output, const ArgmaxOutputs& places, PoolKernel<T> kernel) {
    // Tasks of a few rows, for several threads. One thread takes an image at a time, because a kernel first prepares
    // its permutations, which for small images takes as long as some rows.
    const std::int64_t threads = threads_for_tasks(), all_rows = std::max<std::int64_t>(o.p, 1);
    const std::int64_t rows =
        threads == 1 ? all_rows : std::clamp<std::int64_t>(o.n * o.p / (8 * threads), 1, all_rows);
    const std::int64_t tiles = ceil_div(o.p, rows);
    const double window = static_cast<double>(o.r) * static_cast<double>(o.s); // may be huge
    parallel_for(o.n * tiles, static_cast<double>(o.n * o.p * o.q * o.c) * window, [&](std::int64_t task) {
        const std::int64_t n = task / tiles, y0 = task % tiles * rows;
        each_rectangle<T>(o, y0, std::min(o.p, y0 + rows), [&](PoolRow<T>& row, std::int64_t y, std::int64_t x) {
            const std::int64_t at = ((n * o.p + y) * o.q + x) * o.c;
            row.x = input + n * o.h * o.w * o.c;
            row.y = output + at;
            row.y_row = o.q * o.c;
            row.y_step = row.channels = o.c;
            row.argmax = places.argmax ? places.argmax + at : nullptr;
            row.argmax_base = places.include_batch ? n * o.h * o.w * o.c : 0;
            row.tap = places.taps ? places.taps + at : nullptr;
            kernel(row);
        });
    });
}

template <class T>
void pool(const PoolProblem& o, PoolKind kind, const void* from, void* to, const ArgmaxOutputs& places) {
    const T* input = static_cast<const T*>(from);
    T* output = static_cast<T*>(to);
    if (o.q == 0 || o.c == 0) return; // otherwise empty rows would become tasks
    const bool plain = places.argmax == nullptr && places.taps == nullptr;
    if (plain && separable_pool(o, kind, input, output)) return;
    const PoolKernel<T> kernel = kind == PoolKind::max ? kernels<T>().max_row : kernels<T>().avg_row;
    if (o.format == DataFormat::nhwc) return pool_nhwc(o, input, output, places, kernel);
    const std::int64_t in = o.h * o.w * o.c, out = o.p * o.q * o.c;
    each_nhwc_part(o, (in + out) * size_of(o.dtype), nhwc_part_bytes(), [&](const PoolProblem& part, std::int64_t n) {
        const Scratch<T> x(part.n * in), y(part.n * out);
        const Scratch<std::int64_t> argmax(places.argmax ? part.n * out : 0);
        transpose_images(part.n, o.c, o.h * o.w, input + n * in, x.get());
        const ArgmaxOutputs nhwc{places.argmax ? argmax.get() : nullptr, places.include_batch,
                                 places.taps ? places.taps + n * out : nullptr};
        pool_nhwc(part, x.get(), y.get(), nhwc, kernel);
        transpose_images(part.n, o.p * o.q, o.c, y.get(), output + n * out, o.n);
        if (!places.argmax) return;
        if (places.include_batch)
            for (std::int64_t i = 0; i < part.n * out; ++i) argmax.get()[i] += n * in;
        transpose_images(part.n, o.p * o.q, o.c, argmax.get(), places.argmax + n * out, o.n);
    });
}

void max_pool(const PoolProblem& problem, const void* input, void* output, const ArgmaxOutputs& places) {
    for_type(problem.dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        pool<T>(problem, PoolKind::max, input, output, places);
    });
}

} // namespace

void max_pool2d(const PoolProblem& problem, const void* input, void* output, std::int64_t* argmax, bool include_batch) {
    max_pool(problem, input, output, {argmax, include_batch, nullptr});
}

void max_pool2d_with_taps(const PoolProblem& problem, const void* input, void* output, std::uint8_t* taps) {
    check_taps(problem);
    max_pool(problem, input, output, {nullptr, false, taps});
}

void avg_pool2d(const PoolProblem& problem, const void* input, void* output) {
    for_type(problem.dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        pool<T>(problem, PoolKind::average, input, output, {});
    });
}

} // namespace fastconv
