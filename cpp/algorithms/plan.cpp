#include "algorithms/plan.h"

#include "algorithms/correlation.h"
#include "algorithms/winograd.h"
#include "algorithms/winograd_tiles.h"

#include <cstdlib>
#include <string>

namespace fastconv {
namespace {

bool winograd_enabled() {
    static const bool enabled = [] {
        const char* value = std::getenv("FASTCONV_WINOGRAD");
        return value == nullptr || std::string(value) != "0";
    }();
    return enabled;
}

} // namespace

template <class T>
Algorithm choose_algorithm(const ConvProblem& o, Direction) {
    if (o.algorithm == Algorithm::winograd) return Algorithm::winograd;
    if (o.groups == o.c && o.k == o.c)
        return Algorithm::depthwise; // the same memory, whether written with groups or not
    if (o.algorithm == Algorithm::direct) return Algorithm::direct;
    if (!winograd_enabled() || !winograd_serves<T>(o)) return Algorithm::direct;
    // Transforms cost about 36*(C + K) operations a tile against 36*C*K multiplications: they pay from some 32
    // channels.
    if (o.c < 32 || o.k < 32) return Algorithm::direct;
    // 36 products a tile instead of the window's for each of its pixels, of which those over the edge are wasted; the
    // transforms take half as long again where channels are few. Images of less than 6x6 have too few tiles for the
    // transformed filters.
    const WinogradForm form(o.r);
    const std::int64_t tiles = TileGrid(form, o.p, o.q).image();
    return kPoints * tiles * 2 < o.r * o.s * o.p * o.q && o.p * o.q >= 36 ? Algorithm::winograd : Algorithm::direct;
}

template Algorithm choose_algorithm<float>(const ConvProblem&, Direction);
template Algorithm choose_algorithm<double>(const ConvProblem&, Direction);

} // namespace fastconv
