#include "network/operation.h"

#include "core/errors.h"
#include "core/made_once.h"
#include "core/numbers.h"
#include "network/operations/entries.h"

#include <iterator>
#include <utility>

namespace fastconv::network {
namespace {

MadeOnce<const std::vector<Operation>> g_operations;

} // namespace

const std::vector<Operation>& operations() {
    return g_operations.get([] {
        std::vector<Operation> table;
        for (std::vector<Operation> some : {
                 convolution_entries(),
                 pooling_entries(),
                 elementwise_entries(),
                 shape_entries(),
                 padding_entries(),
                 resize_entries(),
                 softmax_entries(),
                 reduction_entries(),
             })
            std::move(some.begin(), some.end(), std::back_inserter(table));
        return std::make_unique<const std::vector<Operation>>(std::move(table));
    });
}

const Operation* find_operation(std::string_view name) {
    for (const Operation& operation : operations())
        if (operation.name == name) return &operation;
    return nullptr;
}

std::vector<OperationSpec> operation_specs() { return {operations().begin(), operations().end()}; }

const char* name_of(InputKind kind) {
    static constexpr const char* names[] = {"tensor", "constant", "optional tensor", "optional constant", "tensors"};
    return names[static_cast<std::size_t>(kind)];
}

const char* name_of(AttributeKind kind) {
    static constexpr const char* names[] = {
        "integer", "integers", "integers or null", "pair", "pair or null", "numbers or null",
        "pairs",   "number",   "boolean",          "word", "padding",      "activation"};
    return names[static_cast<std::size_t>(kind)];
}

std::int64_t element_count(const Dims& dims, DataType dtype) {
    std::int64_t bytes = size_of(dtype), count = 1;
    for (const std::int64_t d : dims) {
        if (d != 0 && __builtin_mul_overflow(bytes, d, &bytes))
            fail("a tensor of shape ", show(dims), " has a size in bytes that overflows 64 bits");
        count *= d;
    }
    return count;
}

std::int64_t product(const Dims& dims, std::size_t first, std::size_t last) {
    std::int64_t result = 1;
    for (std::size_t i = first; i < last; ++i) result *= dims[i];
    return result;
}

std::size_t normal_axis(std::int64_t axis, std::size_t rank) {
    const auto count = static_cast<std::int64_t>(rank);
    if (rank == 0) fail("a tensor of shape () has no axis ", axis);
    if (axis < -count || axis >= count) fail("axis must be from ", -count, " to ", count - 1, ", got ", axis);
    return static_cast<std::size_t>(axis < 0 ? axis + count : axis);
}

void check_rank_at_least(const char* name, const Dims& dims, std::size_t rank) {
    if (dims.size() < rank) fail(name, " must have ", rank, " or more dimensions, got shape ", show(dims));
}

} // namespace fastconv::network
