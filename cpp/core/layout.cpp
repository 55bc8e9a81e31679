#include "core/layout.h"

#include "core/isa.h"
#include "core/threads/parallel_for.h"

#include <algorithm>
#include <type_traits>

namespace fastconv {

template <class T>
void transpose_images(std::int64_t images, std::int64_t rows, std::int64_t columns, const T* from, T* to) {
    constexpr std::int64_t strip = 32;
    const std::int64_t strips = (columns + strip - 1) / strip;
    parallel_for(images * strips, static_cast<double>(images * rows * columns), [&](std::int64_t task) {
        const std::int64_t first = task % strips * strip, count = std::min(columns - first, strip);
        const T* source = from + task / strips * rows * columns + first;
        T* target = to + (task / strips * columns + first) * rows;
        if constexpr (std::is_floating_point_v<T>) {
            kernels<T>().transpose(source, columns, target, rows, rows, count);
        } else {
            for (std::int64_t r = 0; r < rows; ++r)
                for (std::int64_t c = 0; c < count; ++c) target[c * rows + r] = source[r * columns + c];
        }
    });
}

std::int64_t nhwc_part_bytes() {
    constexpr std::int64_t of_thread = 2 << 20;
    return std::min(kMostPartBytes, of_thread * threads_for_tasks());
}

template void transpose_images(std::int64_t, std::int64_t, std::int64_t, const float*, float*);
template void transpose_images(std::int64_t, std::int64_t, std::int64_t, const double*, double*);
template void transpose_images(std::int64_t, std::int64_t, std::int64_t, const std::int64_t*, std::int64_t*);

} // namespace fastconv
