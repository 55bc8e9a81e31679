// Resizes images by nearest-neighbour or bilinear interpolation, with the coordinates of ONNX.
#include "core/chunks.h"
#include "core/errors.h"
#include "core/for_type.h"
#include "core/isa.h"
#include "network/operations/entries.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace fastconv::network {
namespace {

enum class Coordinates : std::uint8_t { half_pixel, align_corners, asymmetric, pytorch_half_pixel };
enum class Rounding : std::uint8_t { floor, round_prefer_floor, round_prefer_ceil, ceil };

constexpr std::int64_t kLargest = std::int64_t{1} << 24; // rows or columns

struct ResizeAttributes {
    std::optional<Pair> size;
    std::optional<std::array<double, 2>> scales;
    bool bilinear;
    Coordinates coordinates;
    Rounding rounding;
};

/// Where the pixels along one axis of the output come from.
struct AxisSources {
    std::vector<std::ptrdiff_t> left, right; // pixels
    std::vector<double> weights;             // the weights of the right pixels
};

double source_coordinate(std::int64_t at, std::int64_t from, std::int64_t to, double scale, Coordinates coordinates) {
    const auto x = static_cast<double>(at);
    switch (coordinates) {
    case Coordinates::half_pixel:
        return (x + 0.5) / scale - 0.5;
    case Coordinates::pytorch_half_pixel:
        return to > 1 ? (x + 0.5) / scale - 0.5 : 0;
    case Coordinates::align_corners:
        return to > 1 ? x * static_cast<double>(from - 1) / static_cast<double>(to - 1) : 0;
    default:
        return x / scale;
    }
}

double rounded(double x, Rounding rounding) {
    switch (rounding) {
    case Rounding::floor:
        return std::floor(x);
    case Rounding::ceil:
        return std::ceil(x);
    case Rounding::round_prefer_floor:
        return std::ceil(x - 0.5);
    default:
        return std::floor(x + 0.5);
    }
}

AxisSources axis_sources(std::int64_t from, std::int64_t to, double scale, const ResizeAttributes& a) {
    AxisSources sources;
    const double last = static_cast<double>(from - 1);
    for (std::int64_t i = 0; i < to; ++i) {
        const double at = source_coordinate(i, from, to, scale, a.coordinates);
        const double low =
            std::clamp(a.bilinear ? std::floor(std::clamp(at, 0.0, last)) : rounded(at, a.rounding), 0.0, last);
        sources.left.push_back(static_cast<std::ptrdiff_t>(low));
        sources.right.push_back(static_cast<std::ptrdiff_t>(std::min(low + 1, last)));
        sources.weights.push_back(std::clamp(at, 0.0, last) - low);
    }
    return sources;
}

struct ResizeProblem {
    Dims from, to;
    AxisSources rows, columns;
};

template <class T>
void resize_nearest(const ResizeProblem& p, std::int64_t image_row, const T* from, T* to) {
    const std::int64_t channels = p.from[3], y = image_row % p.to[1], n = image_row / p.to[1];
    const T* row = from + (n * p.from[1] + p.rows.left[static_cast<std::size_t>(y)]) * p.from[2] * channels;
    to += image_row * p.to[2] * channels;
    for (const std::ptrdiff_t column : p.columns.left) {
        if (channels >= 16)
            std::memcpy(to, row + column * channels, static_cast<std::size_t>(channels) * sizeof(T));
        else
            for (std::int64_t c = 0; c < channels; ++c) to[c] = row[column * channels + c];
        to += channels;
    }
}

template <class T>
void run_resize(const ResizeProblem& p, bool bilinear, const T* from, T* to) {
    const std::int64_t channels = p.from[3], rows = p.to[0] * p.to[1], row = p.to[2] * channels;
    if (rows == 0 || row == 0) return;
    std::vector<std::ptrdiff_t> left = p.columns.left, right = p.columns.right;
    for (std::ptrdiff_t& offset : left) offset *= channels;
    for (std::ptrdiff_t& offset : right) offset *= channels;
    const std::vector<T> weights(p.columns.weights.begin(), p.columns.weights.end());
    const double cost = (bilinear ? 3 : 1) * kElementCost * static_cast<double>(rows * row);
    parallel_for(rows, cost, [&](std::int64_t image_row) {
        if (!bilinear) return resize_nearest(p, image_row, from, to);
        const auto y = static_cast<std::size_t>(image_row % p.to[1]);
        const T* image = from + image_row / p.to[1] * p.from[1] * p.from[2] * channels;
        const std::int64_t source_row = p.from[2] * channels;
        kernels<T>().interpolate_row({image + p.rows.left[y] * source_row, image + p.rows.right[y] * source_row,
                                      static_cast<T>(p.rows.weights[y]), left.data(), right.data(), weights.data(),
                                      to + image_row * row, p.to[2], channels});
    });
}

PreparedStep prepare_resize(const ResizeAttributes& a, const Dims& dims, DataType dtype) {
    if (dims.size() != 4) fail("input must have 4 dimensions (N, H, W, C), got shape ", show(dims));
    auto problem = std::make_shared<ResizeProblem>();
    problem->from = problem->to = dims;
    for (std::size_t axis = 0; axis < 2; ++axis) {
        const std::int64_t size = dims[axis + 1];
        const auto length = static_cast<double>(size);
        const double wanted = a.size ? static_cast<double>((*a.size)[axis]) : std::floor(length * (*a.scales)[axis]);
        if (!(wanted <= static_cast<double>(kLargest)))
            fail("the resized image must have at most ", kLargest, " rows and columns, got ", wanted);
        const auto output = static_cast<std::int64_t>(wanted);
        if (size == 0 && output > 0) fail("input must have pixels to resize, got shape ", show(dims));
        problem->to[axis + 1] = output;
        const double scale = a.size ? wanted / length : (*a.scales)[axis];
        (axis == 0 ? problem->rows : problem->columns) = axis_sources(size, output, scale, a);
    }
    PreparedStep step;
    step.output = problem->to;
    step.by_image = true;
    step.operations = (a.bilinear ? 9.0 : 0.0) * static_cast<double>(element_count(step.output, dtype));
    step.run = [problem = std::shared_ptr<const ResizeProblem>(problem), bilinear = a.bilinear,
                dtype](const void* const* from, void* output) {
        for_type(dtype, [&](auto t) {
            using T = typename decltype(t)::type;
            run_resize(*problem, bilinear, static_cast<const T*>(from[0]), static_cast<T*>(output));
        });
    };
    return step;
}

Prepare bind_resize(const Binding& binding) {
    const AttributeReader& from = binding.attributes;
    const ResizeAttributes attributes{from.optional_pair("size"), from.optional_numbers("scales"),
                                      from.word("method") == 1, static_cast<Coordinates>(from.word("coordinates")),
                                      static_cast<Rounding>(from.word("rounding"))};
    if (attributes.size.has_value() == attributes.scales.has_value())
        fail("either size or scales must be given, and not both");
    if (attributes.scales)
        for (const double scale : *attributes.scales)
            if (!(scale > 0 && std::isfinite(scale))) fail("scales must be positive and finite, got ", scale);
    return [attributes, dtype = binding.dtype](const Shapes& inputs) {
        return prepare_resize(attributes, inputs[0], dtype);
    };
}

} // namespace

std::vector<Operation> resize_entries() {
    AttributeSpec method{"method", AttributeKind::word, false, json("nearest")};
    method.words = {"nearest", "bilinear"};
    AttributeSpec coordinates{"coordinates", AttributeKind::word, false, json("half_pixel")};
    coordinates.words = {"half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"};
    AttributeSpec rounding{"rounding", AttributeKind::word, false, json("round_prefer_floor")};
    rounding.words = {"floor", "round_prefer_floor", "round_prefer_ceil", "ceil"};
    return {
        {{"resize",
          {{"input"}},
          {{"size", AttributeKind::optional_pair},
           {"scales", AttributeKind::optional_numbers},
           method,
           coordinates,
           rounding}},
         bind_resize},
    };
}

} // namespace fastconv::network
