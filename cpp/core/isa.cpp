// Picks the instruction set once, at first use. A new one is a row here and a line in CMakeLists.txt.
#include "core/isa.h"

#include "fastconv/types.h"

#include <cstdlib>

namespace fastconv {

#define FASTCONV_DECLARE_ISA(isa)                                                                                      \
    namespace isa {                                                                                                    \
    void add_direct(KernelTable&);                                                                                     \
    void add_dot(KernelTable&);                                                                                        \
    void add_filter_gradient(KernelTable&);                                                                            \
    void add_flat(KernelTable&);                                                                                       \
    void add_depthwise(KernelTable&);                                                                                  \
    void add_pooling(KernelTable&);                                                                                    \
    void add_transpose(KernelTable&);                                                                                  \
    void add_winograd(KernelTable&);                                                                                   \
    void add_bias_gradient(KernelTable&);                                                                              \
    void add_behind_max_pool(KernelTable&);                                                                            \
    }
FASTCONV_DECLARE_ISA(baseline)
#if defined(FASTCONV_X86)
FASTCONV_DECLARE_ISA(avx2)
FASTCONV_DECLARE_ISA(avx512)
#endif

namespace {

struct Isa {
    const char* name;
    bool (*available)();
    void (*add[10])(KernelTable&);
};

#define FASTCONV_ADD(isa)                                                                                              \
    {isa::add_direct,  isa::add_dot,       isa::add_filter_gradient, isa::add_flat,          isa::add_depthwise,       \
     isa::add_pooling, isa::add_transpose, isa::add_winograd,        isa::add_bias_gradient, isa::add_behind_max_pool}
// The slowest first. __builtin_cpu_supports also asks whether the operating system saves the registers.
const Isa kIsas[] = {
    {"baseline", [] { return true; }, FASTCONV_ADD(baseline)},
#if defined(FASTCONV_X86)
    {"avx2", [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }, FASTCONV_ADD(avx2)},
    {"avx512",
     [] {
         return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                __builtin_cpu_supports("fma");
     },
     FASTCONV_ADD(avx512)},
#endif
};

struct Chosen {
    const Isa* isa = nullptr;
    KernelTable table{};

    Chosen() {
        const char* forced = std::getenv("FASTCONV_ISA");
        const bool any = forced == nullptr || *forced == '\0';
        for (const Isa& candidate : kIsas) {
            if (candidate.available() && (any || std::string(forced) == candidate.name)) isa = &candidate;
        }
        if (isa == nullptr) {
            std::string names;
            for (const std::string& name : isa_available()) names += (names.empty() ? "" : ", ") + name;
            throw InvalidArgument("the environment variable FASTCONV_ISA is '" + std::string(forced) +
                                  "', but this machine has: " + names);
        }
        for (auto add : isa->add) add(table);
    }
};

const Chosen& chosen() {
    static const Chosen once; // a constructor that throws is tried again
    return once;
}

} // namespace

const KernelTable& kernel_table() { return chosen().table; }
std::string isa_in_use() { return chosen().isa->name; }

std::vector<std::string> isa_available() {
    std::vector<std::string> names;
    for (const Isa& candidate : kIsas) {
        if (candidate.available()) names.emplace_back(candidate.name);
    }
    return names;
}

} // namespace fastconv
