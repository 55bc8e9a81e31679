#include "arrays.h"

#include "fastconv/memory.h"

#include <pybind11/gil_safe_call_once.h>

#include <memory>
#include <new>
#include <utility>

namespace fastconv {
namespace {

// malloc keeps freed blocks of up to 32 MB. It takes larger ones from the system, page by page, at each call.
constexpr std::size_t kRecycledBytes = 16 << 20;

std::string name_of(const py::dtype& dtype) { return py::str(dtype).cast<std::string>(); }

bool is_aligned(const py::array& array) {
    return reinterpret_cast<std::uintptr_t>(array.data()) % static_cast<std::uintptr_t>(array.itemsize()) == 0;
}

bool is_dense(const py::array& array) { return (array.flags() & py::array::c_style) != 0 && is_aligned(array); }

py::array dense(const py::array& array) { return is_dense(array) ? array : py::array(array.attr("copy")("C")); }

/// The range of addresses that an array's elements span.
std::pair<std::uintptr_t, std::uintptr_t> extent(const py::array& array) {
    auto low = reinterpret_cast<std::uintptr_t>(array.data());
    auto high = low + static_cast<std::uintptr_t>(array.itemsize());
    for (py::ssize_t i = 0; i < array.ndim(); ++i) {
        const py::ssize_t span = (array.shape(i) - 1) * array.strides(i);
        (span < 0 ? low : high) += static_cast<std::uintptr_t>(span);
    }
    return {low, high};
}

bool may_overlap(const py::array& a, const py::array& b) {
    const auto [a_low, a_high] = extent(a);
    const auto [b_low, b_high] = extent(b);
    return a.size() > 0 && b.size() > 0 && a_low < b_high && b_low < a_high;
}

const py::object& plain_array() {
    PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<py::object> ndarray;
    return ndarray.call_once_and_store_result([] { return py::module_::import("numpy").attr("ndarray"); }).get_stored();
}

py::array check_array(const char* name, py::handle value, const char* kind) {
    if (!py::isinstance<py::array>(value))
        fail<py::type_error>(name, " must be a NumPy array of ", kind, ", got ",
                             value.is_none() ? "None" : type_name(value) + "; np.asarray makes an array");
    // Most arrays are plain ndarrays. numpy.ma is imported only for subclasses.
    const py::object& plain = plain_array();
    if (!py::type::handle_of(value).is(plain) &&
        py::isinstance(value, py::module_::import("numpy.ma").attr("MaskedArray")))
        fail<py::type_error>(name, " must have no mask, got a masked array; pass ", name, ".filled(value)");
    return py::reinterpret_borrow<py::array>(value);
}

py::dtype output_dtype(OutputKind kind, DataType type) {
    switch (kind) {
    case OutputKind::bytes:
        return py::dtype::of<std::uint8_t>();
    case OutputKind::int64:
        return py::dtype::of<std::int64_t>();
    default:
        return dtype_of(type);
    }
}

/// The type of a floating-point array. Throws for any other type or byte order. `wanted` names the accepted types.
DataType float_type(const char* name, const py::array& array, const char* wanted) {
    const py::dtype dtype = array.dtype();
    const bool is_float32 = dtype.num() == py::dtype::num_of<float>();
    if (!is_float32 && dtype.num() != py::dtype::num_of<double>())
        fail<py::type_error>(name, " must be ", wanted, ", got ", name_of(dtype), "; cast it with ", name,
                             ".astype(np.", wanted[5] == '6' ? "float64" : "float32", ")");
    const DataType type = is_float32 ? DataType::float32 : DataType::float64;
    if (dtype.byteorder() != '=')
        fail<py::type_error>(name, " must have the machine's byte order, got dtype ", name_of(dtype), "; cast it with ",
                             name, ".astype(np.", fastconv::name_of(type), ")");
    return type;
}

} // namespace

void prepare_arrays() {
    plain_array();
    py::dtype::of<float>(); // makes pybind11 look up NumPy's functions
}

py::dtype dtype_of(DataType type) {
    return type == DataType::float32 ? py::dtype::of<float>() : py::dtype::of<double>();
}

py::array typed_input(const char* name, py::handle value, DataType type, const char* whose) {
    const py::array array = check_array(name, value, fastconv::name_of(type));
    if (float_type(name, array, fastconv::name_of(type)) != type)
        fail<py::type_error>(name, " must be ", fastconv::name_of(type), ", the dtype of ", whose, ", got ",
                             name_of(array.dtype()), "; cast it with ", name, ".astype(np.", fastconv::name_of(type),
                             ")");
    return dense(array);
}

Dims dims_of(const py::array& array) { return {array.shape(), array.shape() + array.ndim()}; }

py::array Arrays::input(const char* name, py::handle value) {
    const py::array array = check_array(name, value, "float32 or float64");
    expect(name, float_type(name, array, "float32 or float64"));
    keep(name, array);
    return dense(array);
}

py::array Arrays::bytes(const char* name, py::handle value) {
    const py::array array = check_array(name, value, "uint8");
    if (array.dtype().num() != py::dtype::num_of<std::uint8_t>())
        fail<py::type_error>(name, " must be uint8, got ", name_of(array.dtype()), "; cast it with ", name,
                             ".astype(np.uint8)");
    keep(name, array);
    return dense(array);
}

void Arrays::expect(const char* name, DataType type) {
    if (!first_.empty() && type != dtype_)
        fail<py::type_error>(name, " is ", fastconv::name_of(type), " but ", first_, " is ", fastconv::name_of(dtype_),
                             "; cast one of them, for example with ", name, ".astype(np.", fastconv::name_of(dtype_),
                             ")");
    if (first_.empty()) first_ = name;
    dtype_ = type;
}

py::array new_array(const py::dtype& dtype, const Dims& dims) {
    auto bytes = static_cast<double>(dtype.itemsize()); // cannot overflow
    for (const std::int64_t size : dims) bytes *= static_cast<double>(size);
    if (bytes < kRecycledBytes || bytes > most_kept_bytes) return py::array(dtype, dims);
    try {
        std::unique_ptr<void, void (*)(void*)> memory(take_memory(static_cast<std::size_t>(bytes)), return_memory);
        const py::capsule owner(memory.get(), return_memory);
        const void* const data = memory.release(); // now the capsule's
        return py::array(dtype, dims, data, owner);
    } catch (const std::bad_alloc&) {
        return py::array(dtype, dims); // raises an error that names the size
    }
}

py::array Arrays::output(const char* name, py::handle value, const Dims& dims, OutputKind kind) {
    const py::dtype dtype = output_dtype(kind, dtype_);
    if (value.is_none()) return new_array(dtype, dims);
    const py::array array = check_array(name, value, "the result's shape and dtype");
    check_output(name, array, dims, dtype);
    keep(name, array); // a second output must not overlap the first
    return array;
}

void Arrays::check_output(const char* name, const py::array& array, const Dims& dims, const py::dtype& dtype) const {
    if (!array.dtype().is(dtype) && !array.dtype().equal(dtype))
        fail<py::type_error>(name, " must have dtype ", name_of(dtype), ", got ", name_of(array.dtype()));
    check_dims(name, dims_of(array), dims, "that of the result");
    if (!array.writeable()) fail<py::value_error>(name, " must be writable, got a read-only array");
    if (!is_dense(array))
        fail<py::value_error>(name, " must be C-contiguous and aligned; np.empty makes such an array");
    for (std::size_t i = 0; i < count_; ++i)
        if (may_overlap(array, py::reinterpret_borrow<py::array>(kept_[i].array)))
            fail<py::value_error>(name, " must not overlap ", kept_[i].name, " in memory");
}

} // namespace fastconv
