// The names and parameters of activations.
#include "core/errors.h"
#include "fastconv/types.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace fastconv {
namespace {

struct Entry {
    std::string_view name;
    std::size_t fewest, most; // how many parameters it takes
    double alpha, beta;       // the defaults of its parameters
};

// In the order of enum class Activation.
constexpr Entry kActivations[] = {
    {"linear", 0, 0, 0, 0},
    {"relu", 0, 0, 0, 0},
    {"relu6", 0, 0, 0, 6},
    {"leaky_relu", 0, 1, 0.2, 0},
    {"elu", 0, 1, 1, 0},
    {"gelu", 0, 0, 0, 0},
    {"gelu_tanh", 0, 0, 0, 0},
    {"silu", 0, 0, 0, 0},
    {"sigmoid", 0, 0, 0, 0},
    {"hard_sigmoid", 0, 2, 1.0 / 6, 0.5},
    {"hard_swish", 0, 0, 1.0 / 6, 0.5},
    {"tanh", 0, 0, 0, 0},
    {"clip", 2, 2, 0, 0},
};
static_assert(std::size(kActivations) == activation_count, "an entry for each activation");

void check_parameters(const Entry& entry, const std::vector<double>& parameters) {
    const std::size_t count = parameters.size();
    if (count < entry.fewest || count > entry.most) {
        const char* const numbers = count == 1 ? " number" : " numbers";
        if (entry.most == 0) fail("activation '", entry.name, "' takes no numbers, got ", count, numbers);
        if (entry.fewest == entry.most)
            fail("activation '", entry.name, "' takes ", entry.most, " numbers, (low, high), got ", count, numbers);
        fail("activation '", entry.name, "' takes at most ", entry.most, entry.most == 1 ? " number" : " numbers",
             ", got ", count, numbers);
    }
    const bool bounds = entry.name == "clip"; // bounds may be infinite
    for (const double value : parameters)
        if (std::isnan(value) || (!bounds && std::isinf(value)))
            fail("activation '", entry.name, "' takes ", bounds ? "numbers other than NaN" : "finite numbers", ", got ",
                 value);
    if (bounds && parameters[0] > parameters[1])
        fail("activation 'clip' takes a lower bound that is not above the upper one, got ", parameters[0], " and ",
             parameters[1]);
}

} // namespace

std::string activation_choices(bool graph_only) {
    if (graph_only) return "None, 'linear' or 'relu'";
    std::string names;
    for (const Entry& entry : kActivations) names += ", '" + std::string(entry.name) + "'";
    return "None" + names + " or a name with its numbers such as ('leaky_relu', 0.2)";
}

ActivationFunction make_activation(std::string_view name, const std::vector<double>& parameters, bool graph_only) {
    const Entry* const end = kActivations + (graph_only ? graph_activation_count : activation_count);
    const Entry* const entry =
        std::find_if(kActivations, end, [&](const Entry& candidate) { return candidate.name == name; });
    if (entry == end) fail("activation must be ", activation_choices(graph_only), ", got '", name, "'");
    check_parameters(*entry, parameters);
    return {static_cast<Activation>(entry - kActivations), parameters.empty() ? entry->alpha : parameters[0],
            parameters.size() < 2 ? entry->beta : parameters[1]};
}

std::string show_activation(const ActivationFunction& activation) {
    const Entry& entry = kActivations[static_cast<std::size_t>(activation.kind)];
    std::string text(entry.name);
    const double parameters[] = {activation.alpha, activation.beta};
    for (std::size_t i = 0; i < entry.most; ++i) {
        char number[32];
        text.append(i == 0 ? "(" : ", ").append(number, std::to_chars(number, number + 32, parameters[i]).ptr);
    }
    return entry.most > 0 ? text + ")" : text;
}

ActivationFunction parse_activation(std::string_view text, bool graph_only) {
    const std::size_t open = text.find('(');
    if (open == std::string_view::npos) return make_activation(text, {}, graph_only);
    const auto refuse = [&] {
        fail("activation must be a name or a name with numbers such as 'leaky_relu(0.2)', got '", text, "'");
    };
    if (text.back() != ')') refuse();
    std::vector<double> parameters;
    const char *at = text.data() + open + 1, *const end = text.data() + text.size() - 1;
    for (;;) {
        while (at != end && *at == ' ') ++at;
        double value = 0;
        const std::from_chars_result read =
            std::from_chars(at, end, value); // unlike strtod, expects a decimal point in every locale
        if (read.ec != std::errc()) refuse();
        parameters.push_back(value);
        at = read.ptr;
        if (at == end) break;
        if (*at++ != ',') refuse();
    }
    return make_activation(text.substr(0, open), parameters, graph_only);
}

} // namespace fastconv
