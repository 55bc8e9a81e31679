#include "frontends/c/attributes.h"

#include <cstring>

namespace fastconv::c {
namespace {

/// The index of the attribute with this name in `enum class Attribute`. If there is none, attribute_count.
std::size_t find_attribute(const char* name) {
    std::size_t i = 0;
    while (i < attribute_count && std::strcmp(name, name_of(static_cast<Attribute>(i))) != 0) ++i;
    return i;
}

void check_value(const fastconv_attribute& attribute) {
    const bool has_text = attribute.text != nullptr, has_numbers = attribute.numbers != nullptr;
    if (has_text == has_numbers)
        fail(attribute.name, " must have either text or numbers, got ", has_text ? "both" : "neither");
    if (has_numbers && (attribute.count < 1 || attribute.count > 8))
        fail(attribute.name, " must have 1 to 8 numbers, got ", attribute.count);
}

} // namespace

NamedAttributes::NamedAttributes(const Operation& operation, const fastconv_attribute* attributes, std::size_t count) {
    if (attributes == nullptr && count > 0) fail("attributes must not be null if attribute_count is ", count);
    for (std::size_t i = 0; i < count; ++i) {
        const fastconv_attribute& attribute = attributes[i];
        if (attribute.name == nullptr) fail("the name of attribute ", i, " must not be null");
        const std::size_t place = find_attribute(attribute.name);
        if (place == attribute_count || !operation.attributes.has(static_cast<Attribute>(place)))
            fail(operation.name, " has no attribute '", attribute.name, "'");
        if (values_[place] != nullptr) fail("attribute ", attribute.name, " must not be given twice");
        check_value(attribute);
        values_[place] = &attribute;
    }
}

std::string_view NamedAttributes::word(Attribute attribute) const {
    const fastconv_attribute* given = value(attribute);
    if (given == nullptr)
        return attribute == Attribute::algorithm
                   ? "auto"
                   : "NHWC"; // read_attributes asks for the activation only if it is given
    if (given->text == nullptr) fail(name_of(attribute), " must be text, got numbers");
    return given->text;
}

Dims NamedAttributes::numbers(Attribute attribute) const {
    const fastconv_attribute& given = *value(attribute);
    if (given.numbers == nullptr) fail(name_of(attribute), " must be numbers, got the text '", given.text, "'");
    return {given.numbers, given.numbers + given.count};
}

Pair NamedAttributes::pair(Attribute attribute, DataFormat format) const {
    if (given(attribute)) return parse_pair(name_of(attribute), numbers(attribute), format);
    if (attribute == Attribute::ksize || attribute == Attribute::pool_size) fail(name_of(attribute), " must be given");
    return {1, 1};
}

Padding NamedAttributes::padding(Attribute attribute, DataFormat format) const {
    const char* name = name_of(attribute);
    if (!given(attribute)) return {};
    if (value(attribute)->text != nullptr) return parse_padding(value(attribute)->text, name);
    const Dims pads = numbers(attribute);
    switch (pads.size()) {
    case 1:
        return explicit_padding(pads[0], pads[0], pads[0], pads[0], name);
    case 2:
        return explicit_padding(pads[0], pads[0], pads[1], pads[1], name);
    case 4:
        return explicit_padding(pads[0], pads[1], pads[2], pads[3], name);
    case 8:
        return explicit_padding(pads, format, name);
    default:
        fail(name, " must be 'VALID', 'SAME' or 1, 2, 4 or 8 numbers, got ", pads.size(), " numbers");
    }
}

bool NamedAttributes::boolean(Attribute attribute, bool otherwise) const {
    if (!given(attribute)) return otherwise;
    const Dims number = numbers(attribute);
    if (number.size() != 1) fail(name_of(attribute), " must be 0 or 1, got ", number.size(), " numbers");
    if (number[0] != 0 && number[0] != 1) fail(name_of(attribute), " must be 0 or 1, got ", number[0]);
    return number[0] == 1;
}

double NamedAttributes::real(Attribute attribute, double otherwise) const {
    if (!given(attribute)) return otherwise;
    return parse_real(name_of(attribute), word(attribute)); // text, since the numbers of attributes are whole
}

} // namespace fastconv::c
