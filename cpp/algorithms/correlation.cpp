#include "algorithms/correlation.h"

#include "algorithms/stride_residue.h"

#include <algorithm>

namespace fastconv {

template <class T>
std::vector<Gather<T>> input_gradient_gathers(const ConvProblem& o, const T* filters, const T* dy, T* dx) {
    const std::int64_t c = o.c / o.groups, k = o.k / o.groups;
    std::vector<Gather<T>> gathers;
    for (std::int64_t first_h = 0; first_h < std::min(o.stride_h, o.h); ++first_h) {
        const Phase down = make_phase(first_h, o.h, o.stride_h, o.dilation_h, o.r, o.pad_top);
        for (std::int64_t first_w = 0; first_w < std::min(o.stride_w, o.w); ++first_w) {
            const Phase along = make_phase(first_w, o.w, o.stride_w, o.dilation_w, o.s, o.pad_left);
            Gather<T> g{};
            g.n = o.n;
            g.groups = o.groups;
            g.c = k;
            g.k = c;
            g.input = dy;
            g.pixel = o.k;
            g.image = o.p * o.q * o.k;
            g.group_in = k;
            g.f_group = k;
            g.f_c = 1;
            g.f_k = o.k;
            g.f_j = -along.tap_step * c * o.k;
            g.f_i = -down.tap_step * o.s * c * o.k;
            g.filters = filters + (down.last_tap * o.s + along.last_tap) * c * o.k;
            g.output = dx + (first_h * o.w + first_w) * o.c;
            g.out_pixel = o.stride_w * o.c;
            g.out_row = o.stride_h * o.w * o.c;
            g.out_image = o.h * o.w * o.c;
            g.out_group = c;
            g.windows = {o.p, o.q, down.count,    along.count,    down.taps, along.taps,
                         1,   1,   down.dilation, along.dilation, down.base, along.base};
            if (o.p == 0 || o.q == 0) g.windows.r = g.windows.s = 0;
            gathers.push_back(g);
        }
    }
    return gathers;
}

template std::vector<Gather<float>> input_gradient_gathers(const ConvProblem&, const float*, const float*, float*);
template std::vector<Gather<double>> input_gradient_gathers(const ConvProblem&, const double*, const double*, double*);

} // namespace fastconv
