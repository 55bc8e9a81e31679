// The form that forward pass and input gradient share: every output pixel reads a window of its input.
#pragma once

#include "algorithms/padded_tile.h"
#include "core/numbers.h"
#include "core/packed.h"
#include "fastconv/convolution.h"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace fastconv {

/// Into how many parts with sums of their own, for `values` filter values each, the gradient over so many pixels pays
/// to be cut: clearing and adding the sums costs as much as some 100 pixels, a task as much as 100,000 multiplications.
inline std::int64_t gradient_parts_that_pay(std::int64_t pixels, std::int64_t values) {
    const double work = static_cast<double>(pixels) * static_cast<double>(values);
    const double least = 131072.0 + 256.0 * static_cast<double>(values);
    return static_cast<std::int64_t>(std::clamp(work / least, 1.0, 1e6));
}

/// For each group g: out[n, y, x, k] = sum over i, j, c of in[n, window(y, x, i, j), c] * filters(i, j, c, k).
template <class T>
struct Gather {
    Windows windows;
    std::int64_t n, groups, c, k; // c, k: of one group
    const T* input;
    std::int64_t image, pixel; // elements between images and pixels of the input; group g starts at channel g*c
    std::int64_t group_in;
    const T* filters; // element (g, i, j, c, k) at g*f_group + i*f_i + j*f_j + c*f_c + k*f_k
    std::int64_t f_group, f_i, f_j, f_c, f_k;
    T* output;
    std::int64_t out_image, out_row, out_pixel, out_group;
    const T* bias;
    bool relu, accumulate;
    PackCache* cache; // of filters that stay, else null
};

/// How the filters of a gather lie in memory, and `blocks`: how they shall be packed.
template <class T>
PackKey pack_key(const Gather<T>& g, Algorithm algorithm, std::array<std::int64_t, 4> blocks) {
    return {static_cast<std::int64_t>(algorithm),
            static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(g.filters)),
            g.groups,
            g.c,
            g.k,
            g.windows.r,
            g.windows.s,
            g.f_group,
            g.f_i,
            g.f_j,
            g.f_c,
            g.f_k,
            blocks[0],
            blocks[1],
            blocks[2],
            blocks[3]};
}

template <class T>
Gather<T> forward_gather(const ConvProblem& o, const T* input, const T* filters, const T* bias, bool relu, T* output) {
    Gather<T> g{};
    g.windows = windows_of(o);
    g.n = o.n;
    g.groups = o.groups;
    g.c = o.c / o.groups;
    g.k = o.k / o.groups;
    g.input = input;
    g.pixel = o.c;
    g.image = o.h * o.w * o.c;
    g.group_in = g.c;
    g.filters = filters;
    g.f_k = 1;
    g.f_c = o.k;
    g.f_j = g.c * o.k;
    g.f_i = o.s * g.f_j;
    g.f_group = g.k;
    g.output = output;
    g.out_pixel = o.k;
    g.out_row = o.q * o.k;
    g.out_image = o.p * g.out_row;
    g.out_group = g.k;
    g.bias = bias;
    g.relu = relu;
    return g;
}

/// The gathers of an input gradient, one for each phase of the stride; no window (r or s is 0) where no tap reaches.
template <class T>
std::vector<Gather<T>> input_gradient_gathers(const ConvProblem& o, const T* filters, const T* dy, T* dx);

} // namespace fastconv
