// Picks the instruction set once, at first use.
#include "core/isa.h"

#include "core/environment.h"
#include "core/made_once.h"
#include "isa_table.h"

namespace fastconv {
namespace {

struct Chosen {
    const Isa* isa = nullptr;
    KernelTable table{};

    Chosen() {
        const std::string& forced = environment().isa;
        for (const Isa& candidate : kIsas) {
            if (candidate.available() && (forced.empty() || forced == candidate.name)) isa = &candidate;
        }
        if (isa == nullptr) {
            std::string names;
            for (const std::string& name : isa_available()) names += (names.empty() ? "" : ", ") + name;
            refuse_variable("FASTCONV_ISA", forced, "this CPU supports only: " + names);
        }
        isa->add_kernels(table);
    }
};

MadeOnce<const Chosen> g_chosen;

const Chosen& chosen() { return g_chosen.get(); }

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
