#include "network/strided_copy.h"

#include "core/chunks.h"
#include "core/for_type.h"
#include "core/isa.h"

#include <cstring>
#include <utility>

namespace fastconv::network {
namespace {

constexpr std::int64_t kRunPiece = 16384;  // values of a run that one task copies
constexpr std::int64_t kMatrixPiece = 256; // columns of a matrix that one task transposes

} // namespace

Dims dense_steps(const Dims& dims) {
    Dims steps(dims.size());
    std::int64_t step = 1;
    for (std::size_t i = dims.size(); i-- > 0; step *= dims[i]) steps[i] = step;
    return steps;
}

StridedCopy::StridedCopy(const Dims& dims, const Dims& from, const Dims& to, DataType dtype) : dtype_(dtype) {
    std::int64_t total = 1;
    for (std::size_t i = dims.size(); i-- > 0;) {
        total *= dims[i];
        if (dims[i] == 1) continue;
        if (count_ > 0) {
            Axis& last = axes_[count_ - 1];
            if (from[i] == last.from * last.size && to[i] == last.to * last.size) {
                last.size *= dims[i];
                continue;
            }
        }
        axes_[count_++] = {dims[i], from[i], to[i]};
    }
    if (total == 0)
        items_ = 0;
    else
        choose_item();
}

void StridedCopy::choose_item() {
    // A run may be contiguous in the destination only. If another axis is contiguous in the source, the two axes are a
    // matrix that is transposed.
    for (std::size_t i = 1; i < count_ && axes_[0].from != 1; ++i) {
        if (axes_[i].from != 1 || axes_[0].to != 1) continue;
        std::swap(axes_[1], axes_[i]);
        transposes_ = true;
        item_axes_ = 2;
        break;
    }
    const std::int64_t size = axes_[item_axes_ - 1].size, inner = transposes_ ? axes_[0].size : 1;
    piece_ = transposes_ ? std::max<std::int64_t>(16, kMatrixPiece * 16 / inner) : kRunPiece;
    piece_ = std::min(piece_, size);
    pieces_ = ceil_div(size, piece_);
    item_size_ = piece_ * inner;
    items_ = pieces_;
    for (std::size_t i = item_axes_; i < count_; ++i) items_ *= axes_[i].size;
}

template <class T>
void StridedCopy::copy_item(const T* from, T* to, std::int64_t piece) const {
    const Axis &inner = axes_[0], &last = axes_[item_axes_ - 1];
    const std::int64_t first = piece * piece_, size = std::min(piece_, last.size - first);
    from += first * last.from;
    to += first * last.to;
    if (transposes_) {
        kernels<T>().transpose(from, inner.from, to, last.to, inner.size, size);
    } else if (inner.from == 1 && inner.to == 1) {
        std::memcpy(to, from, static_cast<std::size_t>(size) * sizeof(T));
    } else {
        for (std::int64_t i = 0; i < size; ++i) to[i * inner.to] = from[i * inner.from];
    }
}

/// Counts through the indices of the outer axes like an odometer.
template <class T>
void StridedCopy::copy_items(const T* from, T* to, std::int64_t first, std::int64_t last) const {
    std::array<std::int64_t, most_dimensions> index{};
    std::int64_t piece = first % pieces_, rest = first / pieces_;
    Position at;
    for (std::size_t i = item_axes_; i < count_; ++i) {
        index[i] = rest % axes_[i].size;
        rest /= axes_[i].size;
        at.from += index[i] * axes_[i].from;
        at.to += index[i] * axes_[i].to;
    }
    for (std::int64_t item = first; item < last; ++item) {
        copy_item(from + at.from, to + at.to, piece);
        if (++piece < pieces_) continue;
        piece = 0;
        for (std::size_t i = item_axes_; i < count_; ++i) {
            at.from += axes_[i].from;
            at.to += axes_[i].to;
            if (++index[i] < axes_[i].size) break;
            at.from -= axes_[i].size * axes_[i].from;
            at.to -= axes_[i].size * axes_[i].to;
            index[i] = 0;
        }
    }
}

void StridedCopy::run(const void* from, void* to) const {
    if (items_ == 0) return;
    for_type(dtype_, [&](auto t) {
        using T = typename decltype(t)::type;
        const std::int64_t at_once = std::max<std::int64_t>(1, kChunk / item_size_);
        const double cost = kElementCost * static_cast<double>(items_) * static_cast<double>(item_size_);
        parallel_for(ceil_div(items_, at_once), cost, [&](std::int64_t task) {
            const std::int64_t first = task * at_once;
            copy_items(static_cast<const T*>(from), static_cast<T*>(to), first, std::min(items_, first + at_once));
        });
    });
}

} // namespace fastconv::network
