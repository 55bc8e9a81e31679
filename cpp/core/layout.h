// Most kernels compute NHWC. For them, tensors in NCHW are transposed on the way in and on the way out.
#pragma once

#include "fastconv/types.h"

#include <algorithm>
#include <cstdint>

namespace fastconv {

/// Transposes each image: images x rows x columns becomes images x columns x rows. From NCHW to NHWC, rows = C and
/// columns = H*W. From NHWC to NCHW, rows = H*W and columns = C. If these images are a part of a result, all_images is
/// how many the result has.
template <class T>
void transpose_images(std::int64_t images, std::int64_t rows, std::int64_t columns, const T* from, T* to,
                      std::int64_t all_images = 0);

/// Copies rows x columns pixels of some channels from planes to NHWC: to[(y*columns + x)*channels + c]. Rows of a plane
/// are `row` values apart, and planes are `plane` values apart. It runs on the calling thread.
template <class T>
void copy_from_planes(const T* from, std::int64_t row, std::int64_t plane, std::int64_t rows, std::int64_t columns,
                      std::int64_t channels, T* to);
/// The inverse. Rows and pixels of the NHWC side are from_row and from_pixel values apart.
template <class T>
void copy_to_planes(const T* from, std::int64_t from_row, std::int64_t from_pixel, std::int64_t rows,
                    std::int64_t columns, std::int64_t channels, T* to, std::int64_t row, std::int64_t plane);

constexpr std::int64_t kMostPartBytes = 16 << 20;

/// The bytes of the NHWC copies of a part of a batch. Smaller copies stay in the caches until they are used. Larger
/// ones have work for more threads.
std::int64_t nhwc_part_bytes();

/// Calls body(part, n) for consecutive parts of the batch of an NCHW problem. `part` is the NHWC problem for the images
/// of this part, and n is the first of them. The NHWC copies take image_bytes per image. The copies of a part take at
/// most `most_bytes`, unless one image takes more.
template <class Problem, class Body>
void each_nhwc_part(const Problem& problem, std::int64_t image_bytes, std::int64_t most_bytes, Body&& body) {
    const std::int64_t images = std::max<std::int64_t>(1, most_bytes / std::max<std::int64_t>(1, image_bytes));
    Problem part = problem;
    part.format = DataFormat::nhwc;
    for (std::int64_t n = 0; n < problem.n; n += images) {
        part.n = std::min(images, problem.n - n);
        body(static_cast<const Problem&>(part), n);
    }
}

} // namespace fastconv
