#include "network/operations/entries.h"

#include <algorithm>

namespace fastconv::network {
namespace {

template <class T>
Json make_json(T value) {
    Json result;
    result.held = std::move(value);
    return result;
}

} // namespace

Json json(std::int64_t number) { return make_json(number); }
Json json(double number) { return make_json(number); }
Json json(bool value) { return make_json(value); }
Json json(const char* text) { return make_json(std::string(text)); }

Json json(std::initializer_list<std::int64_t> numbers) {
    Json::List list(numbers.size());
    std::transform(numbers.begin(), numbers.end(), list.begin(), [](std::int64_t number) { return json(number); });
    return make_json(std::move(list));
}

AttributeSpec required(const char* name, AttributeKind kind) {
    AttributeSpec spec{name, kind};
    spec.required = true;
    return spec;
}

AttributeSpec activation_spec() {
    Json::List list(1);
    list[0] = json("linear");
    return {"activation", AttributeKind::activation, false, make_json(std::move(list))};
}

} // namespace fastconv::network
