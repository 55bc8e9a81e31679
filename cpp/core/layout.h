// NCHW at the door: the kernels compute NHWC, so tensors of the other format are turned on the way in and out.
#pragma once

#include <cstdint>

namespace fastconv {

/// images x rows x columns -> images x columns x rows. NCHW -> NHWC: rows = C, columns = H*W; back: the other way.
template <class T>
void transpose_images(std::int64_t images, std::int64_t rows, std::int64_t columns, const T* from, T* to);

} // namespace fastconv
