// A correlation: the common form of forward passes and input gradients. Every output pixel reads a window of the input.
#pragma once

#include "algorithms/activation.h"
#include "algorithms/padded_tile.h"
#include "core/numbers.h"
#include "core/packed.h"
#include "fastconv/convolution.h"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace fastconv {

/// For each group g: out[n, y, x, k] = sum over i, j, c of in[n, window(y, x, i, j), c] * filters(i, j, c, k).
///
/// Offsets and strides count elements of the operands.
struct Correlation {
    Windows windows;
    std::int64_t n, groups, c, k;                     // c, k: of one group
    std::int64_t input_start, image, pixel, group_in; // offset of the input; strides of images, pixels and groups
    std::int64_t filters_start; // element (g, i, j, c, k) is at filters_start + g*f_group + i*f_i + ...
    std::int64_t f_group, f_i, f_j, f_c, f_k;
    std::int64_t output_start, out_image, out_row, out_pixel, out_group;
    std::int64_t bias_start;
    bool accumulate; // adds to the output, because this is a later part of a sum
    bool finish;     // adds the bias and applies the activation, because this is the last part of a sum

    bool empty() const { return n == 0 || windows.p == 0 || windows.q == 0; }
    std::int64_t window() const { return windows.r * windows.s; }
    /// The work of one output pixel, in operations.
    double pixel_work() const { return 2.0 * static_cast<double>(groups * window() * c * k); }
    double multiplications() const {
        return static_cast<double>(n * windows.p * windows.q) * static_cast<double>(groups * window() * c * k);
    }
};

Correlation forward_correlation(const ConvProblem& problem);
/// One correlation for each stride residue. Its window is empty (r or s is 0) if no tap reaches the residue.
std::vector<Correlation> input_gradient_correlations(const ConvProblem& problem);
/// Turns a dense 1x1 problem with stride 1 into one long row of pixels. Returns other problems unchanged.
Correlation as_one_row(const Correlation& g);

/// Some output pixels of one image.
struct ImageTile {
    std::int64_t image;
    Tile tile;
};

/// Channels [c0, c0 + channels) x filters [k0, k0 + filters) of a filter gradient.
struct GradientBlock {
    std::int64_t c0, channels, k0, filters;
};

/// The data of one call. Pointers that the direction of the call does not use are null.
template <class T>
struct Operands {
    const T* input;        // what the correlation reads; in input gradients, this is out_backprop
    const T* filters;      // not in filter gradients
    const T* out_backprop; // in filter gradients only
    const T* bias;
    // The epilogue: activation(sum + bias + residual). The residual has the output's layout, or is null.
    const T* residual;
    Activation activation;
    T alpha, beta;    // the activation's parameters
    Bounds<T> bounds; // set if the activation bounds values and does nothing else
    T* output;
    PackCache* cache;                   // the packed forms of filters that stay, or null
    const std::vector<ImageTile>* only; // the tiles to compute; null for the whole output
    const GradientBlock* block;         // the block of a filter gradient to compute; `output` then holds only the block

    /// Whether kernels apply the activation in registers.
    bool in_registers() const { return bounds.set || activation == Activation::linear; }
    /// The bounds for kernels that cannot add a residual. Bounds come after the residual, so with one there are none.
    Bounds<T> kernel_bounds() const { return residual == nullptr ? bounds : Bounds<T>{}; }
    /// Operands without what finish_tile and its like apply, for callers that apply it themselves.
    Operands without_finish() const {
        Operands operands = *this;
        operands.bounds = kernel_bounds();
        operands.residual = nullptr;
        operands.activation = Activation::linear;
        return operands;
    }
    /// Whether finish_tile and its like have work to do after a kernel that took kernel_bounds().
    bool finishes() const { return residual != nullptr || !in_registers(); }
};

/// The forms in which algorithms pack filters. The form is part of the key, so one form is never taken for another.
enum class PackForm : std::uint8_t {
    direct,
    grouped,
    small_k_reduce,
    small_k_spread,
    winograd,
    winograd_ordered,
    rows
};

/// The key of packed filters: their layout in memory and how they are packed.
PackKey pack_key(const Correlation& g, PackForm form, const std::array<std::int64_t, 4>& blocks);

} // namespace fastconv
