#include "utf8.h"

namespace unmul {

char32_t next_code_point(std::string_view text, size_t& at) {
    constexpr char32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};  // by length
    const auto lead = static_cast<unsigned char>(text[at++]);
    if (lead < 0x80) return lead;
    const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC0 || lead >= 0xF8 || text.size() - at < length - 1) return kNotUtf8;
    char32_t code = lead & (0x7F >> length);
    for (size_t k = 1; k < length; ++k) {
        const auto byte = static_cast<unsigned char>(text[at++]);
        if ((byte & 0xC0) != 0x80) return kNotUtf8;
        code = code << 6 | (byte & 0x3F);
    }
    const bool surrogate = code >= 0xD800 && code < 0xE000;
    return code < kSmallest[length] || code > 0x10FFFF || surrogate ? kNotUtf8 : code;
}

bool is_utf8(std::string_view text) {
    for (size_t at = 0; at < text.size();)
        if (next_code_point(text, at) == kNotUtf8) return false;
    return true;
}

void append_utf8(std::string& to, char32_t code) {
    const int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    constexpr unsigned char kLead[] = {0, 0xC0, 0xE0, 0xF0};
    to += char(kLead[more] | code >> (6 * more));
    for (int k = more - 1; k >= 0; --k) to += char(0x80 | (code >> (6 * k) & 0x3F));
}

}  // namespace unmul
