// Reads the attributes of a step. Missing attributes get the defaults of the operation. Wrong attributes throw.
#pragma once

#include "fastconv/network.h"

#include <array>
#include <optional>
#include <string_view>

namespace fastconv::network {

/// The text of a value, for error messages.
std::string text_of(const Json& value);

class AttributeReader {
  public:
    /// Throws if an attribute is not in the specification, if it is given twice, or if a required attribute is missing.
    AttributeReader(const OperationSpec& operation, const std::vector<NamedJson>& given);

    std::int64_t integer(const char* name) const;
    Dims integers(const char* name) const;
    std::vector<std::optional<std::int64_t>> optional_integers(const char* name) const;
    /// Two integers of at least 1, for height and width.
    Pair pair(const char* name) const;
    std::optional<Pair> optional_pair(const char* name) const;
    std::optional<std::array<double, 2>> optional_numbers(const char* name) const;
    /// Two integers of at least 0.
    Pair pair_from_zero(const char* name) const;
    std::vector<Pair> pairs(const char* name) const;
    double number(const char* name) const;
    bool boolean(const char* name) const;
    /// The index of the given word among the words of the specification.
    std::size_t word(const char* name) const;
    Padding padding(const char* name) const;
    ActivationFunction activation() const;

  private:
    std::size_t index(std::string_view name) const;
    const Json& value(const char* name) const { return values_[index(name)]; }

    const OperationSpec* operation_;
    std::vector<Json> values_; // in the order of the operation's attributes
};

} // namespace fastconv::network
