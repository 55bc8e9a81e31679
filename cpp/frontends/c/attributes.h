// Reads the attributes of a C call into those of the C++ API.
#pragma once

#include "fastconv/c_api.h"
#include "fastconv/operations.h"
#include "fastconv/text.h"

#include <array>

namespace fastconv::c {

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
    throw InvalidArgument(joined(parts...));
}

/// A source for read_attributes. Refuses attributes that the operation does not have.
class NamedAttributes {
  public:
    NamedAttributes(const Operation& operation, const fastconv_attribute* attributes, std::size_t count);

    bool given(Attribute attribute) const { return value(attribute) != nullptr; }
    std::string_view word(Attribute attribute) const;
    Pair pair(Attribute attribute, DataFormat format) const;
    Padding padding(Attribute attribute, DataFormat format) const;
    /// The numbers of an attribute that is given.
    Dims numbers(Attribute attribute) const;
    ActivationFunction activation(bool graph_only) const {
        return parse_activation(word(Attribute::activation), graph_only);
    }
    bool boolean(Attribute attribute, bool otherwise) const;
    double real(Attribute attribute, double otherwise) const;
    Pair output_size(Attribute attribute) const { return parse_output_size(name_of(attribute), numbers(attribute)); }

  private:
    const fastconv_attribute* value(Attribute attribute) const { return values_[static_cast<std::size_t>(attribute)]; }

    std::array<const fastconv_attribute*, attribute_count> values_{}; // null if not given
};

} // namespace fastconv::c
