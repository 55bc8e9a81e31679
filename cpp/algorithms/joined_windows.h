// Windows that lie side by side, as in patch embeddings and in transposed convolutions that double the size of an
// image.
#pragma once

#include "fastconv/convolution.h"

namespace fastconv {

/// An equal problem whose windows are one column wide, if the windows of a row cover it side by side. The pixels of a
/// window's row become channels of one pixel. No value moves, neither in the images nor in the filters. If only one
/// window fits into the image, all of its pixels become one. Returns other problems and NCHW unchanged.
///
/// An input gradient then has R correlations instead of R*S, each of which stores S*C values in a row. A filter
/// gradient has longer rows of channels, which pays only if C is small. The forward pass reads such rows as one in any
/// case.
ConvProblem join_windows(const ConvProblem& problem, Direction direction);

} // namespace fastconv
