// A convolution and the max pooling of its output, a few images at a time. For a whole batch, the output of the
// convolution would go to memory and back. For a few images, it stays in the caches.
//
// In a small layer, a task takes a few images through both operations. In a large layer, each operation uses all
// threads, because otherwise every task would pack or transform the filters again.
#include "algorithms/max_pool_taps.h"
#include "core/numbers.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"
#include "fastconv/pooling.h"

#include <algorithm>
#include <cstddef>

namespace fastconv {
namespace {

constexpr std::int64_t kTaskBytes = 64 << 10;    // the convolution's output in one task; stays in L2, mostly in L1
constexpr std::int64_t kFilterBytes = 128 << 10; // the filters that each task reads and may transform
constexpr std::int64_t kTasks = 32;              // the fewest tasks, if the batch has at least as many images
constexpr std::int64_t kChunkBytes = 4 << 20;    // the convolution's output at a time in a large layer; stays in L3

} // namespace

void conv2d_max_pool2d(const ConvProblem& problem, const PoolProblem& pool, const void* input,
                       const PackedFilters& filters, const void* bias, Activation activation, void* output,
                       std::uint8_t* taps) {
    check_pool_of_output(problem, pool);
    const std::int64_t size = size_of(problem.dtype), input_bytes = problem.h * problem.w * problem.c * size;
    const std::int64_t conv_bytes = problem.p * problem.q * problem.k * size, pooled = pool.p * pool.q * pool.c;
    const std::int64_t window = problem.r * problem.s * (problem.c / problem.groups);
    if (problem.n == 0 || pooled == 0) return;
    const auto compute_images = [&](std::int64_t first, std::int64_t count) {
        ConvProblem images = problem;
        PoolProblem windows = pool;
        images.n = windows.n = count;
        const Scratch<std::byte> between(count * conv_bytes);
        conv2d(images, static_cast<const std::byte*>(input) + first * input_bytes, filters,
               {bias, {activation}, nullptr}, between.get());
        std::byte* to = static_cast<std::byte*>(output) + first * pooled * size;
        if (taps != nullptr)
            max_pool2d_with_taps(windows, between.get(), to, taps + first * pooled);
        else
            max_pool2d(windows, between.get(), to, nullptr, false);
    };
    if (conv_bytes <= kTaskBytes && window * problem.k * size <= kFilterBytes && problem.n > 1) {
        const std::int64_t at_once = std::clamp<std::int64_t>(problem.n / kTasks, 1, kTaskBytes / conv_bytes);
        const std::int64_t tasks = ceil_div(problem.n, at_once);
        const double work =
            2.0 * static_cast<double>(problem.n * problem.p * problem.q * problem.k) * static_cast<double>(window);
        parallel_for(tasks, work, [&](std::int64_t task) {
            const std::int64_t first = part_start(task, tasks, problem.n);
            compute_images(first, part_start(task + 1, tasks, problem.n) - first);
        });
        return;
    }
    const std::int64_t at_once = std::max<std::int64_t>(1, kChunkBytes / conv_bytes);
    for (std::int64_t first = 0; first < problem.n; first += at_once)
        compute_images(first, std::min(at_once, problem.n - first));
}

} // namespace fastconv
