#include "core/layout.h"

#include "core/threading.h"

#include <algorithm>

namespace fastconv {

// In squares, so that the lines read and the lines written both stay in L1 while they are needed.
template <class T>
void transpose_images(std::int64_t images, std::int64_t rows, std::int64_t columns, const T* from, T* to) {
    constexpr std::int64_t square = 32;
    const std::int64_t strips = (columns + square - 1) / square;
    parallel_for(images * strips, static_cast<double>(images * rows * columns), [&](std::int64_t task) {
        const T* source = from + task / strips * rows * columns;
        T* target = to + task / strips * rows * columns;
        const std::int64_t c0 = task % strips * square, c1 = std::min(columns, c0 + square);
        for (std::int64_t r0 = 0; r0 < rows; r0 += square)
            for (std::int64_t c = c0; c < c1; ++c)
                for (std::int64_t r = r0; r < std::min(rows, r0 + square); ++r)
                    target[c * rows + r] = source[r * columns + c];
    });
}

template void transpose_images(std::int64_t, std::int64_t, std::int64_t, const float*, float*);
template void transpose_images(std::int64_t, std::int64_t, std::int64_t, const double*, double*);
template void transpose_images(std::int64_t, std::int64_t, std::int64_t, const std::int64_t*, std::int64_t*);

} // namespace fastconv
