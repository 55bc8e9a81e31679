#include "network/activation.h"

#include "core/for_type.h"
#include "core/isa.h"

namespace fastconv::network {

void activate(const ActivationFunction& activation, DataType dtype, void* values, std::int64_t first,
              std::int64_t count) {
    if (activation.kind == Activation::linear) return;
    for_type(dtype, [&](auto t) {
        using T = typename decltype(t)::type;
        FinishRows<T> row{};
        row.y = static_cast<T*>(values) + first;
        row.rows = row.pixels = 1;
        row.y_step = row.channels = count;
        row.alpha = static_cast<T>(activation.alpha);
        row.beta = static_cast<T>(activation.beta);
        kernels<T>().finish_rows[static_cast<std::size_t>(activation.kind)](row);
    });
}

} // namespace fastconv::network
