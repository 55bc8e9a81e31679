#include "network/attribute_reader.h"

#include "core/errors.h"

#include <algorithm>
#include <limits>

namespace fastconv::network {
namespace {

/// The number that a JSON value holds, if any. JSON has no infinity, so the texts "inf" and "-inf" stand for infinity.
std::optional<double> as_number(const Json& json) {
    if (const auto* integer = std::get_if<std::int64_t>(&json.held)) return static_cast<double>(*integer);
    if (const auto* number = std::get_if<double>(&json.held)) return *number;
    if (const auto* text = std::get_if<std::string>(&json.held)) {
        if (*text == "inf") return std::numeric_limits<double>::infinity();
        if (*text == "-inf") return -std::numeric_limits<double>::infinity();
    }
    return std::nullopt;
}

const Json::List* as_list(const Json& json) { return std::get_if<Json::List>(&json.held); }

template <class... Parts>
[[noreturn]] void refuse(std::string_view name, const Json& value, const Parts&... expected) {
    fail(name, " must be ", expected..., ", got ", text_of(value));
}

std::int64_t read_integer(const char* name, const Json& json, const char* expected) {
    const auto* integer = std::get_if<std::int64_t>(&json.held);
    if (integer == nullptr) refuse(name, json, expected);
    return *integer;
}

Pair read_pair(const char* name, const Json& json, std::int64_t least) {
    const Json::List* list = as_list(json);
    if (list == nullptr || list->size() != 2) refuse(name, json, "a list of two integers");
    Pair pair{};
    for (std::size_t i = 0; i < 2; ++i) {
        pair[i] = read_integer(name, (*list)[i], "a list of two integers");
        if (pair[i] < least) refuse(name, json, "two integers of at least ", least);
    }
    return pair;
}

} // namespace

std::string text_of(const Json& value) {
    return std::visit(
        [](const auto& held) -> std::string {
            using Held = std::decay_t<decltype(held)>;
            if constexpr (std::is_same_v<Held, std::monostate>) {
                return "null";
            } else if constexpr (std::is_same_v<Held, bool>) {
                return held ? "true" : "false";
            } else if constexpr (std::is_same_v<Held, std::string>) {
                return joined('"', held.substr(0, 80), '"');
            } else if constexpr (std::is_same_v<Held, Json::List>) {
                std::string text = "[";
                for (std::size_t i = 0; i < held.size() && i < 10; ++i)
                    text += joined(i > 0 ? ", " : "", text_of(held[i]));
                return text + (held.size() > 10 ? ", ...]" : "]");
            } else {
                return joined(held);
            }
        },
        value.held);
}

AttributeReader::AttributeReader(const OperationSpec& operation, const std::vector<NamedJson>& given)
    : operation_(&operation) {
    std::vector<bool> seen(operation.attributes.size());
    for (const AttributeSpec& spec : operation.attributes) values_.push_back(spec.otherwise);
    for (const NamedJson& attribute : given) {
        const std::size_t at = index(attribute.name);
        if (at == seen.size()) {
            std::string names;
            for (const AttributeSpec& spec : operation.attributes)
                names += (names.empty() ? "" : ", ") + std::string(spec.name);
            fail("unknown attribute '", attribute.name, "'; ", operation.name, " has ",
                 names.empty() ? "none" : names.c_str());
        }
        if (seen[at]) fail("attribute '", attribute.name, "' is given twice");
        seen[at] = true;
        values_[at] = attribute.value;
    }
    for (std::size_t i = 0; i < seen.size(); ++i)
        if (operation.attributes[i].required && !seen[i])
            fail("attribute '", operation.attributes[i].name, "' is missing");
}

/// The index of the attribute with this name. If there is none, the number of attributes.
std::size_t AttributeReader::index(std::string_view name) const {
    const auto& specs = operation_->attributes;
    const auto same = [&](const AttributeSpec& spec) { return name == spec.name; };
    return static_cast<std::size_t>(std::find_if(specs.begin(), specs.end(), same) - specs.begin());
}

std::int64_t AttributeReader::integer(const char* name) const { return read_integer(name, value(name), "an integer"); }

Dims AttributeReader::integers(const char* name) const {
    const Json::List* list = as_list(value(name));
    if (list == nullptr) refuse(name, value(name), "a list of integers");
    Dims result;
    for (const Json& item : *list) result.push_back(read_integer(name, item, "a list of integers"));
    return result;
}

std::vector<std::optional<std::int64_t>> AttributeReader::optional_integers(const char* name) const {
    constexpr const char* expected = "a list of integers and nulls";
    const Json::List* list = as_list(value(name));
    if (list == nullptr) refuse(name, value(name), expected);
    std::vector<std::optional<std::int64_t>> result;
    for (const Json& item : *list) {
        if (std::holds_alternative<std::monostate>(item.held))
            result.emplace_back();
        else
            result.emplace_back(read_integer(name, item, expected));
    }
    return result;
}

Pair AttributeReader::pair(const char* name) const { return read_pair(name, value(name), 1); }
Pair AttributeReader::pair_from_zero(const char* name) const { return read_pair(name, value(name), 0); }

std::optional<Pair> AttributeReader::optional_pair(const char* name) const {
    if (std::holds_alternative<std::monostate>(value(name).held)) return std::nullopt;
    return pair(name);
}

std::optional<std::array<double, 2>> AttributeReader::optional_numbers(const char* name) const {
    const Json& json = value(name);
    if (std::holds_alternative<std::monostate>(json.held)) return std::nullopt;
    const Json::List* list = as_list(json);
    if (list == nullptr || list->size() != 2) refuse(name, json, "a list of two numbers");
    std::array<double, 2> numbers{};
    for (std::size_t i = 0; i < 2; ++i) {
        const std::optional<double> number = as_number((*list)[i]);
        if (!number) refuse(name, json, "a list of two numbers");
        numbers[i] = *number;
    }
    return numbers;
}

std::vector<Pair> AttributeReader::pairs(const char* name) const {
    const Json::List* list = as_list(value(name));
    if (list == nullptr) refuse(name, value(name), "a list of pairs of integers");
    std::vector<Pair> result;
    for (const Json& item : *list) result.push_back(read_pair(name, item, 0));
    return result;
}

double AttributeReader::number(const char* name) const {
    const std::optional<double> number = as_number(value(name));
    if (!number) refuse(name, value(name), "a number");
    return *number;
}

bool AttributeReader::boolean(const char* name) const {
    const auto* boolean = std::get_if<bool>(&value(name).held);
    if (boolean == nullptr) refuse(name, value(name), "true or false");
    return *boolean;
}

std::size_t AttributeReader::word(const char* name) const {
    const AttributeSpec& spec = operation_->attributes[index(name)];
    const auto* text = std::get_if<std::string>(&value(name).held);
    std::string words;
    for (std::size_t i = 0; i < spec.words.size(); ++i) {
        if (text != nullptr && *text == spec.words[i]) return i;
        words += (i == 0 ? "\"" : ", \"") + std::string(spec.words[i]) + '"';
    }
    refuse(name, value(name), "one of ", words);
}

Padding AttributeReader::padding(const char* name) const {
    const Json& json = value(name);
    if (const auto* text = std::get_if<std::string>(&json.held)) return parse_padding(*text, name);
    constexpr const char* expected = R"("VALID", "SAME" or a list of four integers: top, bottom, left, right)";
    const Json::List* list = as_list(json);
    if (list == nullptr || list->size() != 4) refuse(name, json, expected);
    std::array<std::int64_t, 4> pads{};
    for (std::size_t i = 0; i < 4; ++i) pads[i] = read_integer(name, (*list)[i], expected);
    return explicit_padding(pads[0], pads[1], pads[2], pads[3], name);
}

ActivationFunction AttributeReader::activation() const {
    constexpr const char *name = "activation", *expected = "a list of a name and numbers";
    const Json& json = value(name);
    const Json::List* list = as_list(json);
    if (list == nullptr || list->empty()) refuse(name, json, expected);
    const auto* word = std::get_if<std::string>(&list->front().held);
    if (word == nullptr) refuse(name, json, expected);
    std::vector<double> parameters;
    for (std::size_t i = 1; i < list->size(); ++i) {
        const std::optional<double> number = as_number((*list)[i]);
        if (!number) refuse(name, json, expected);
        parameters.push_back(*number);
    }
    return make_activation(*word, parameters, false);
}

} // namespace fastconv::network
