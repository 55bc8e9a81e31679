// The geometry of a call as the shape of a tensor without elements.
//
// TensorFlow's C API lets a shape function read no attribute, but it can read the shape of an input. So the Python
// wrapper passes, beside the real inputs, a tensor of shape (0, ...) whose other dimensions are the numbers below.
// Static shapes then also survive tf.while_loop and SavedModels.
#pragma once

#include "fastconv/convolution.h"
#include "fastconv/pooling.h"

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>

namespace fastconv {

struct ConvCode {
    ConvArguments arguments; // its `algorithm` points to a constant
    Activation activation = Activation::linear;
};

struct PoolCode {
    PoolArguments arguments;
    bool include_batch = false; // in the arg max
};

constexpr std::size_t kConvCodeSize = 14, kPoolCodeSize = 12;

inline Dims encode(const ConvCode& code) {
    const ConvArguments& a = code.arguments;
    const std::vector<std::string>& names = algorithm_names();
    const auto algorithm = std::find(names.begin(), names.end(), a.algorithm) - names.begin();
    if (algorithm == static_cast<std::ptrdiff_t>(names.size())) {
        throw InvalidArgument("algorithm must be 'auto', 'direct' or 'winograd', got '" + std::string(a.algorithm) +
                              "'");
    }
    return {0,
            static_cast<std::int64_t>(a.format),
            a.depthwise ? 1 : 0,
            static_cast<std::int64_t>(code.activation),
            algorithm,
            static_cast<std::int64_t>(a.padding.mode),
            a.strides[0],
            a.strides[1],
            a.dilations[0],
            a.dilations[1],
            a.padding.top,
            a.padding.bottom,
            a.padding.left,
            a.padding.right};
}

inline Dims encode(const PoolCode& code) {
    const PoolArguments& a = code.arguments;
    return {0,
            static_cast<std::int64_t>(a.format),
            code.include_batch ? 1 : 0,
            static_cast<std::int64_t>(a.padding.mode),
            a.ksize[0],
            a.ksize[1],
            a.strides[0],
            a.strides[1],
            a.padding.top,
            a.padding.bottom,
            a.padding.left,
            a.padding.right};
}

/// Anyone can call the raw op, so every number is checked again.
inline void check_code(const Dims& dims, std::size_t size, std::initializer_list<std::int64_t> limits) {
    bool good = dims.size() == size && dims[0] == 0;
    std::size_t i = 1;
    for (const std::int64_t limit : limits) good = good && dims[i++] < limit;
    for (; good && i < dims.size(); ++i) good = dims[i] >= 0;
    if (!good)
        throw InvalidArgument("geometry is not what fastconv.tensorflow passes; call its functions instead of the op");
}

inline Padding decode_padding(std::int64_t mode, const std::int64_t* pads) {
    Padding padding;
    padding.mode = static_cast<Padding::Mode>(mode);
    padding.top = pads[0];
    padding.bottom = pads[1];
    padding.left = pads[2];
    padding.right = pads[3];
    return padding;
}

inline ConvCode decode_conv(const Dims& dims) {
    check_code(dims, kConvCodeSize, {2, 2, 2, 3, 3});
    ConvCode code;
    ConvArguments& a = code.arguments;
    a.format = static_cast<DataFormat>(dims[1]);
    a.depthwise = dims[2] != 0;
    code.activation = static_cast<Activation>(dims[3]);
    a.algorithm = algorithm_names()[static_cast<std::size_t>(dims[4])];
    a.strides = {dims[6], dims[7]};
    a.dilations = {dims[8], dims[9]};
    a.padding = decode_padding(dims[5], &dims[10]);
    return code;
}

inline PoolCode decode_pool(const Dims& dims) {
    check_code(dims, kPoolCodeSize, {2, 2, 3});
    PoolCode code;
    PoolArguments& a = code.arguments;
    a.format = static_cast<DataFormat>(dims[1]);
    code.include_batch = dims[2] != 0;
    a.ksize = {dims[4], dims[5]};
    a.strides = {dims[6], dims[7]};
    a.padding = decode_padding(dims[3], &dims[8]);
    return code;
}

} // namespace fastconv
