// Large buffers are kept in a few slots of the process. Slots are read and written atomically, so no thread owns a slot
// and there is no lock that fork() could leave locked. Small buffers are kept in a few slots of each thread. For
// aligned allocations, glibc splits and merges blocks. Without the slots, this took an eighth of the time of LeNet's
// first layer.
#include "core/workspace.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fastconv {
namespace {

constexpr std::size_t kLine = 64;          // bytes of a cache line
constexpr std::size_t kHugePage = 2 << 20; // bytes of a huge page on x86-64, and on AArch64 with pages of 4 KB
constexpr std::size_t kSmall = 64 << 10;   // malloc serves smaller blocks from pages that it keeps
constexpr std::size_t kLeast = 4 << 10;    // the smallest buffer of a thread, so that other calls can use it, too
constexpr std::size_t kKeptBytes = 2 * most_kept_bytes; // the most bytes in all slots of the process together

struct alignas(kLine) Header { // precedes the memory that the caller sees
    std::size_t bytes;
    std::size_t alignment;
};
static_assert(sizeof(Header) == kLine, "the memory behind the header must be aligned to a cache line");

std::atomic<Header*> g_slots[16];
std::atomic<std::size_t> g_kept{0};

void release(Header* header) noexcept { ::operator delete(header, std::align_val_t{header->alignment}); }

std::atomic<unsigned> g_oldest{0};

/// Puts a buffer into an empty slot and returns null. If no slot is empty, replaces another buffer and returns it.
Header* keep(Header* header) noexcept {
    for (std::atomic<Header*>& slot : g_slots) {
        Header* empty = nullptr;
        if (slot.load(std::memory_order_relaxed) == nullptr && slot.compare_exchange_strong(empty, header))
            return nullptr;
    }
    return g_slots[g_oldest++ % std::size(g_slots)].exchange(header);
}

Header* allocate(std::size_t bytes, std::size_t alignment = kLine) {
    return new (::operator new(bytes + kLine, std::align_val_t{alignment})) Header{bytes, alignment};
}

/// The calling thread's buffers of at most kSmall / 2 bytes. The array has no destructor, so it outlives the object
/// that empties it: functions of atexit() may run operations after the main thread's thread_local objects are
/// destroyed.
thread_local Header* t_small[4] = {};

struct SmallBuffersEnd {
    ~SmallBuffersEnd() {
        for (Header*& kept : t_small) {
            if (kept != nullptr) release(std::exchange(kept, nullptr));
        }
    }
    void at_thread_exit() const noexcept {} // the first use of the object registers its destructor
};
thread_local const SmallBuffersEnd t_small_end;

Header* take_small(std::size_t bytes) {
    for (Header*& kept : t_small) {
        if (kept != nullptr && kept->bytes >= bytes) return std::exchange(kept, nullptr);
    }
    std::size_t rounded = kLeast;
    while (rounded < bytes) rounded *= 2;
    return allocate(rounded);
}

void give_small(Header* header) noexcept {
    t_small_end.at_thread_exit();
    for (Header*& kept : t_small) {
        if (kept == nullptr) {
            kept = header;
            return;
        }
    }
    const auto smaller = [](const Header* a, const Header* b) { return a->bytes < b->bytes; };
    std::swap(header, *std::min_element(t_small, std::end(t_small), smaller));
    release(header);
}

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kKeepsSmall = false; // so that AddressSanitizer sees writes beyond the requested size
#else
constexpr bool kKeepsSmall = true;
#endif

} // namespace

void* take_memory(std::size_t bytes) {
    if (kKeepsSmall && bytes <= kSmall / 2) return take_small(bytes) + 1;
    if (bytes >= kSmall) {
        for (std::atomic<Header*>& slot : g_slots) {
            if (slot.load(std::memory_order_relaxed) == nullptr) continue;
            Header* header = slot.exchange(nullptr);
            if (header == nullptr) continue;
            g_kept -= header->bytes;
            if (header->bytes >= bytes && header->bytes / 2 <= bytes) return header + 1;
            return_memory(header + 1);
        }
    }
    return allocate(bytes) + 1;
}

void* take_constant_memory(std::size_t bytes) {
    const std::size_t huge = (bytes + kLine) / kHugePage * kHugePage;
    if (huge == 0) return allocate(bytes) + 1;
    Header* header = allocate(bytes, kHugePage);
#if defined(MADV_HUGEPAGE)
    madvise(header, huge, MADV_HUGEPAGE); // advice only: without huge pages, the system uses small ones
#endif
    return header + 1;
}

void return_memory(void* memory) noexcept {
    Header* header = static_cast<Header*>(memory) - 1;
    if (header->alignment != kLine) return release(header);
    if (kKeepsSmall && header->bytes <= kSmall / 2) return give_small(header);
    if (header->bytes < kSmall || header->bytes > most_kept_bytes) return release(header);
    g_kept += header->bytes;
    if (Header* other = keep(header)) {
        g_kept -= other->bytes;
        release(other);
    }
    for (std::size_t i = 0; g_kept > kKeptBytes && i < std::size(g_slots); ++i) {
        Header* other = g_slots[g_oldest++ % std::size(g_slots)].exchange(nullptr);
        if (other == nullptr) continue;
        g_kept -= other->bytes;
        release(other);
    }
}

} // namespace fastconv
