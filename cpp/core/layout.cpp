#include "core/layout.h"

#include "core/isa.h"
#include "core/threads/parallel_for.h"

#include <algorithm>
#include <type_traits>

namespace fastconv {

namespace {

/// Results of this size and above are written past the caches. The next operation would hardly find them there.
constexpr std::int64_t kCachedBytes = 16 << 20;

} // namespace

template <class T>
void transpose_images(std::int64_t images, std::int64_t rows, std::int64_t columns, const T* from, T* to,
                      std::int64_t all_images) {
    constexpr std::int64_t strip = 32;
    const std::int64_t strips = (columns + strip - 1) / strip;
    const std::int64_t bytes = std::max(images, all_images) * rows * columns * static_cast<std::int64_t>(sizeof(T));
    [[maybe_unused]] const bool streams = bytes >= kCachedBytes;
    parallel_for(images * strips, static_cast<double>(images * rows * columns), [&](std::int64_t task) {
        const std::int64_t first = task % strips * strip, count = std::min(columns - first, strip);
        const T* source = from + task / strips * rows * columns + first;
        T* target = to + (task / strips * columns + first) * rows;
        if constexpr (std::is_floating_point_v<T>) {
            const auto transpose = streams ? kernels<T>().transpose_streaming : kernels<T>().transpose;
            transpose(source, columns, target, rows, rows, count);
        } else {
            for (std::int64_t r = 0; r < rows; ++r)
                for (std::int64_t c = 0; c < count; ++c) target[c * rows + r] = source[r * columns + c];
        }
    });
}

template <class T>
void copy_from_planes(const T* from, std::int64_t row, std::int64_t plane, std::int64_t rows, std::int64_t columns,
                      std::int64_t channels, T* to) {
    if (columns == row) return kernels<T>().transpose(from, plane, to, channels, channels, rows * columns);
    for (std::int64_t y = 0; y < rows; ++y)
        kernels<T>().transpose(from + y * row, plane, to + y * columns * channels, channels, channels, columns);
}

template <class T>
void copy_to_planes(const T* from, std::int64_t from_row, std::int64_t from_pixel, std::int64_t rows,
                    std::int64_t columns, std::int64_t channels, T* to, std::int64_t row, std::int64_t plane) {
    if (columns == row && from_row == columns * from_pixel)
        return kernels<T>().transpose(from, from_pixel, to, plane, rows * columns, channels);
    for (std::int64_t y = 0; y < rows; ++y)
        kernels<T>().transpose(from + y * from_row, from_pixel, to + y * row, plane, columns, channels);
}

std::int64_t nhwc_part_bytes() {
    constexpr std::int64_t of_thread = 4 << 20;
    return std::min(kMostPartBytes, of_thread * threads_for_tasks());
}

#define FASTCONV_LAYOUT(T)                                                                                             \
    template void transpose_images(std::int64_t, std::int64_t, std::int64_t, const T*, T*, std::int64_t);              \
    template void copy_from_planes(const T*, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t,     \
                                   T*);                                                                                \
    template void copy_to_planes(const T*, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, T*,   \
                                 std::int64_t, std::int64_t);
FASTCONV_LAYOUT(float)
FASTCONV_LAYOUT(double)
template void transpose_images(std::int64_t, std::int64_t, std::int64_t, const std::int64_t*, std::int64_t*,
                               std::int64_t);

} // namespace fastconv
