// Picks the instruction set once, at first use.
#include "core/isa.h"

#include "fastconv/types.h"
#include "isa_table.h"

#include <cstdlib>

namespace fastconv {
namespace {

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
        isa->add_kernels(table);
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
