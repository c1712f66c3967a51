// JSON as config.json, tokenizer.json and the header of a safetensors file need it: a tree, read once.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace unmul {

struct Json {
    enum Kind { kNull, kBoolean, kNumber, kString, kArray, kObject };

    // The value of a whole text; throws Error (damaged), in which `what` names the text.
    static Json parse(std::string_view text, const std::string& what);

    // The member of that name, the last one where there are several; nullptr where there is none.
    const Json* find(std::string_view name) const;

    // The member of that name; throws Error where it is missing or of another kind.
    const Json& at(std::string_view name, Kind kind) const;

    // A whole number from 0 to 2^53, or -1 where it is something else.
    int64_t count() const;

    // Of a number.
    double number() const;

    Kind kind = kNull;
    std::string text;  // of a string; of a number and a truth value, as they stand in the source
    std::vector<Json> items;
    std::vector<std::pair<std::string, Json>> members;
};

}  // namespace unmul
