#include "core/packed.h"

#include "core/numbers.h"

#include <algorithm>
#include <cstring>

namespace fastconv {

struct PackCache::Node {
    PackKey key;
    void* memory;
    Node* next;
};

PackCache::~PackCache() {
    Node* node = head_;
    while (node != nullptr) {
        Node* next = node->next;
        return_memory(node->memory);
        delete node;
        node = next;
    }
}

void* PackCache::find(const PackKey& key) const noexcept {
    for (const Node* node = head_; node != nullptr; node = node->next)
        if (node->key == key) return node->memory;
    return nullptr;
}

void* PackCache::add(const PackKey& key, void* memory) {
    Node* node = new Node{key, memory, head_};
    for (;;) {
        for (const Node* other = node->next; other != nullptr; other = other->next) {
            if (other->key != key) continue;
            return_memory(memory);
            delete node;
            return other->memory;
        }
        if (head_.compare_exchange_weak(node->next, node)) return memory;
    }
}

std::int64_t PackCache::count() const noexcept {
    std::int64_t nodes = 0;
    for (const Node* node = head_; node != nullptr; node = node->next) ++nodes;
    return nodes;
}

PackedFilters::PackedFilters(DataType dtype, const Dims& dims, const void* filters, Memory memory)
    : dtype_(dtype), dims_(dims), data_(filters), cache_(std::make_unique<PackCache>()) {
    if (memory == Memory::borrowed) return;
    auto bytes = static_cast<std::size_t>(size_of(dtype));
    for (const std::int64_t d : dims) bytes *= static_cast<std::size_t>(d);
    copy_.reset(take_memory(bytes));
    data_ = copy_.get();
    if (bytes > 0) std::memcpy(copy_.get(), filters, bytes); // `filters` may be null if there are none
}

PackedFilters::~PackedFilters() = default;

void PackedFilters::Free::operator()(void* memory) const noexcept { return_memory(memory); }

std::int64_t PackedFilters::forms() const { return cache_->count(); }

} // namespace fastconv
