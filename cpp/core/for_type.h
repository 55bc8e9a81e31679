// The one place that turns a data type known at run time into a C++ type.
#pragma once

#include "fastconv/types.h"

#include <utility>

namespace fastconv {

template <class T>
struct Type {
    using type = T;
};

/// Calls body(Type<T>{}) with the C++ type of `type`:
///
///     for_type(problem.dtype, [&](auto t) {
///         using T = typename decltype(t)::type;
///         ...
///     });
template <class Body>
decltype(auto) for_type(DataType type, Body&& body) {
    if (type == DataType::float32) return std::forward<Body>(body)(Type<float>{});
    return std::forward<Body>(body)(Type<double>{});
}

} // namespace fastconv
