// UTF-8, strictly: no overlong forms, no surrogates.
#pragma once

#include <string>
#include <string_view>

namespace unmul {

// The code point at text[at], and at moves behind it; kNotUtf8 where there is none.
constexpr char32_t kNotUtf8 = 0xFFFFFFFF;
char32_t next_code_point(std::string_view text, size_t& at);

bool is_utf8(std::string_view text);

void append_utf8(std::string& to, char32_t code);

}  // namespace unmul
