#include "algorithms/small_k_planar.h"

#include "algorithms/filter_blocks.h"

namespace fastconv {
namespace {

constexpr std::int64_t kPartWork = 64 << 10; // an image with fewer multiplications (about 2 us) is not cut

} // namespace

template <class T>
void fill_planar(const Windows& a, std::int64_t y0, std::int64_t rows, const T* input, std::int64_t pixel,
                 std::int64_t channels, T* to) {
    const Planar planar(a, rows);
    const std::int64_t top = a.base_h + y0;
    const std::int64_t first = std::clamp<std::int64_t>(-top, 0, planar.lines);
    const std::int64_t last = std::clamp<std::int64_t>(a.h - top, first, planar.lines);
    const std::int64_t left = std::clamp<std::int64_t>(-a.base_w, 0, planar.line);
    const std::int64_t right = std::clamp<std::int64_t>(a.w - a.base_w, left, planar.line);
    const bool padded = first > 0 || last < planar.lines || left > 0 || right < planar.line;
    // The padding consists of many small pieces, so clearing the whole copy is faster.
    if (padded) std::fill_n(to, channels * planar.plane, T{});
    const auto turn = [&](std::int64_t t, std::int64_t count) {
        const T* from = input + ((top + t) * a.w + a.base_w + left) * pixel;
        T* line = to + t * planar.line + left;
        if (channels == 1 && pixel == 1)
            std::copy_n(from, count, line);
        else
            kernels<T>().transpose(from, pixel, line, planar.plane, count, channels);
    };
    if (left == 0 && right == a.w && planar.line == a.w) {
        turn(first, (last - first) * planar.line);
    } else if (right > left) {
        for (std::int64_t t = first; t < last; ++t) turn(t, right - left);
    }
}

template <class T>
bool spread_serves(const Windows& a, std::int64_t channels, std::int64_t filters) {
    const KernelsOf<T>& kernel = kernels<T>();
    return (a.r == 3 || a.r == 5) && a.stride_h == 1 && a.stride_w == 1 && a.dilation_h == 1 && a.dilation_w == 1 &&
           (filters == 1 || (filters <= kernel.width && kernel.spreads)) && a.r * a.s * channels <= kSumLength &&
           Planar(a, kRegisterRows).size<T>(channels) * static_cast<std::int64_t>(sizeof(T)) <= kPlanarBytes;
}

template <class T>
std::int64_t choose_spread_rows(const Windows& a, std::int64_t channels, std::int64_t filters, std::int64_t images,
                                std::int64_t parts) {
    const std::int64_t row_work = a.q * filters * a.r * a.s * channels;
    std::int64_t rows = std::min(a.p, kRegisterRows);
    while (rows < a.p &&
           Planar(a, rows + kRegisterRows).size<T>(channels) * static_cast<std::int64_t>(sizeof(T)) <= kPlanarBytes &&
           (images * ceil_div(a.p, rows + kRegisterRows) >= parts || rows * row_work < kPartWork))
        rows += kRegisterRows;
    return ceil_div(a.p, ceil_div(a.p, rows));
}

#define FASTCONV_SMALL_K_PLANAR(T)                                                                                     \
    template void fill_planar(const Windows&, std::int64_t, std::int64_t, const T*, std::int64_t, std::int64_t, T*);   \
    template bool spread_serves<T>(const Windows&, std::int64_t, std::int64_t);                                        \
    template std::int64_t choose_spread_rows<T>(const Windows&, std::int64_t, std::int64_t, std::int64_t, std::int64_t);
FASTCONV_SMALL_K_PLANAR(float)
FASTCONV_SMALL_K_PLANAR(double)

} // namespace fastconv
