#include "algorithms/correlation.h"

#include "algorithms/stride_residue.h"

#include <algorithm>

namespace fastconv {

Correlation forward_correlation(const ConvProblem& o) {
    Correlation g{};
    g.windows = windows_of(o);
    g.n = o.n;
    g.groups = o.groups;
    g.c = o.c / o.groups;
    g.k = o.k / o.groups;
    g.pixel = o.c;
    g.image = o.h * o.w * o.c;
    g.group_in = g.c;
    g.f_k = 1;
    g.f_c = o.k;
    g.f_j = g.c * o.k;
    g.f_i = o.s * g.f_j;
    g.f_group = g.k;
    g.out_pixel = o.k;
    g.out_row = o.q * o.k;
    g.out_image = o.p * g.out_row;
    g.out_group = g.k;
    g.finish = true;
    return g;
}

std::vector<Correlation> input_gradient_correlations(const ConvProblem& o) {
    const std::int64_t c = o.c / o.groups, k = o.k / o.groups;
    std::vector<Correlation> correlations;
    for (std::int64_t first_h = 0; first_h < std::min(o.stride_h, o.h); ++first_h) {
        const StrideResidue down = stride_residue(first_h, o.h, o.stride_h, o.dilation_h, o.r, o.pad_top);
        for (std::int64_t first_w = 0; first_w < std::min(o.stride_w, o.w); ++first_w) {
            const StrideResidue along = stride_residue(first_w, o.w, o.stride_w, o.dilation_w, o.s, o.pad_left);
            Correlation g{};
            g.n = o.n;
            g.groups = o.groups;
            g.c = k;
            g.k = c;
            g.pixel = o.k;
            g.image = o.p * o.q * o.k;
            g.group_in = k;
            g.f_group = k;
            g.f_c = 1;
            g.f_k = o.k;
            // The steps from tap to tap. With one tap, the step is not used and could overflow.
            g.f_j = along.taps > 1 ? -along.tap_step * c * o.k : 0;
            g.f_i = down.taps > 1 ? -down.tap_step * o.s * c * o.k : 0;
            g.filters_start = (down.last_tap * o.s + along.last_tap) * c * o.k;
            g.output_start = (first_h * o.w + first_w) * o.c;
            g.out_pixel = o.stride_w * o.c;
            g.out_row = o.stride_h * o.w * o.c;
            g.out_image = o.h * o.w * o.c;
            g.out_group = c;
            g.windows = {o.p, o.q, down.count,    along.count,    down.taps, along.taps,
                         1,   1,   down.dilation, along.dilation, down.base, along.base};
            if (o.p == 0 || o.q == 0) // no tap is read, and the dilation may be huge
                g.windows = {o.p, o.q, down.count, along.count, 0, 0, 1, 1, 1, 1, 0, 0};
            g.finish = true;
            correlations.push_back(g);
        }
    }
    return correlations;
}

Correlation as_one_row(const Correlation& g) {
    const Windows& a = g.windows;
    const bool dense = a.r == 1 && a.s == 1 && a.stride_h == 1 && a.stride_w == 1 && a.base_h == 0 && a.base_w == 0 &&
                       a.p == a.h && a.q == a.w && g.image == a.h * a.w * g.pixel && g.out_row == a.q * g.out_pixel &&
                       g.out_image == a.p * g.out_row;
    if (!dense) return g;
    Correlation row = g;
    row.windows.w = row.windows.q = g.n * a.p * a.q;
    row.windows.h = row.windows.p = 1;
    row.n = std::min<std::int64_t>(g.n, 1);
    return row;
}

PackKey pack_key(const Correlation& g, PackForm form, const std::array<std::int64_t, 4>& blocks) {
    return {static_cast<std::int64_t>(form),
            g.filters_start,
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

} // namespace fastconv
