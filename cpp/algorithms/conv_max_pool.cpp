// A convolution and the max-pooling behind it, a few images at a time, so that what lies between them is read from the
// caches: it is four times as large as the pooled output of 2x2 windows, and read but once.
//
// A task takes a few images of a small layer through both operations. Of other layers each operation is worth threads
// of its own, and filters would have to be packed or transformed again and again.
#include "algorithms/correlation.h"
#include "algorithms/max_pool_taps.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"
#include "fastconv/pooling.h"

#include <algorithm>
#include <cstddef>

namespace fastconv {
namespace {

constexpr std::int64_t kTaskBytes = 64 << 10;    // of the convolution's output of one task: of L2, or of L1 nearly
constexpr std::int64_t kFilterBytes = 128 << 10; // which each task reads, and may have to transform
constexpr std::int64_t kTasks = 32;              // at least, if there are as many images
constexpr std::int64_t kChunkBytes = 4 << 20;    // of the output of layers too large for that: of L3

} // namespace

void conv2d_max_pool2d(const ConvProblem& problem, const PoolProblem& pool, const void* input,
                       const PackedFilters& filters, const void* bias, Activation activation, void* output,
                       std::uint8_t* taps) {
    check_pool_of_output(problem, pool);
    const std::int64_t size = size_of(problem.dtype), image = problem.h * problem.w * problem.c * size;
    const std::int64_t between = problem.p * problem.q * problem.k * size, pooled = pool.p * pool.q * pool.c;
    const std::int64_t window = problem.r * problem.s * (problem.c / problem.groups);
    if (problem.n == 0 || pooled == 0) return;
    const auto some_images = [&](std::int64_t first, std::int64_t count) {
        ConvProblem conv = problem;
        PoolProblem windows = pool;
        conv.n = windows.n = count;
        const Scratch<std::byte> maps(count * between);
        conv2d(conv, static_cast<const std::byte*>(input) + first * image, filters, bias, activation, maps.get());
        max_pool2d_with_taps(windows, maps.get(), static_cast<std::byte*>(output) + first * pooled * size,
                             taps + first * pooled);
    };
    if (between <= kTaskBytes && window * problem.k * size <= kFilterBytes && problem.n > 1) {
        const std::int64_t few = std::clamp<std::int64_t>(problem.n / kTasks, 1, kTaskBytes / between);
        const std::int64_t tasks = ceil_div(problem.n, few);
        const double work =
            2.0 * static_cast<double>(problem.n * problem.p * problem.q * problem.k) * static_cast<double>(window);
        parallel_for(tasks, work, [&](std::int64_t task) {
            const std::int64_t first = part_start(task, tasks, problem.n);
            some_images(first, part_start(task + 1, tasks, problem.n) - first);
        });
        return;
    }
    const std::int64_t few = std::max<std::int64_t>(1, kChunkBytes / between);
    for (std::int64_t first = 0; first < problem.n; first += few) some_images(first, std::min(few, problem.n - first));
}

} // namespace fastconv
