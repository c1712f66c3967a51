#include "json.h"

#include <algorithm>
#include <locale>
#include <sstream>

#include "errors.h"
#include "utf8.h"

namespace unmul {
namespace {

constexpr int kDeepest = 100;
constexpr char32_t kHighSurrogates = 0xD800, kLowSurrogates = 0xDC00, kAfterSurrogates = 0xE000;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

class Parser {
public:
    Parser(std::string_view text, const std::string& what) : text_(text), what_(what) {}

    Json whole() {
        Json result = value(0);
        skip_space();
        if (at_ != text_.size()) damaged();
        return result;
    }

private:
    [[noreturn]] void damaged() const {
        fail(ErrorCode::kDamaged, what_ + " is not JSON at byte " + std::to_string(at_) + ": copy or download it again");
    }

    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

    void skip_space() {
        while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) ++at_;
    }

    bool take(std::string_view expected) {
        if (text_.substr(at_, expected.size()) != expected) return false;
        at_ += expected.size();
        return true;
    }

    void must_take(std::string_view expected) {
        if (!take(expected)) damaged();
    }

    Json value(int depth) {
        if (depth > kDeepest) damaged();
        skip_space();
        Json result;
        if (peek() == '{') return object(depth);
        if (peek() == '[') return array(depth);
        if (peek() == '"') return result.kind = Json::kString, result.text = string(), result;
        if (take("null")) return result;
        for (const char* truth : {"true", "false"})
            if (take(truth)) return result.kind = Json::kBoolean, result.text = truth, result;
        return result.kind = Json::kNumber, result.text = number(), result;
    }

    Json object(int depth) {
        Json result;
        result.kind = Json::kObject;
        must_take("{");
        skip_space();
        if (take("}")) return result;
        do {
            skip_space();
            std::string name = string();
            skip_space();
            must_take(":");
            result.members.emplace_back(std::move(name), value(depth + 1));
            skip_space();
        } while (take(","));
        must_take("}");
        return result;
    }

    Json array(int depth) {
        Json result;
        result.kind = Json::kArray;
        must_take("[");
        skip_space();
        if (take("]")) return result;
        do {
            result.items.push_back(value(depth + 1));
            skip_space();
        } while (take(","));
        must_take("]");
        return result;
    }

    std::string number() {
        const size_t start = at_;
        take("-");
        if (!take("0")) digits();
        if (take(".")) digits();
        if (take("e") || take("E")) {
            if (!take("+")) take("-");
            digits();
        }
        return std::string(text_.substr(start, at_ - start));
    }

    void digits() {
        if (!is_digit(peek())) damaged();
        while (is_digit(peek())) ++at_;
    }

    std::string string() {
        must_take("\"");
        std::string result;
        while (!take("\"")) {
            if (static_cast<unsigned char>(peek()) < 0x20) damaged();  // also the end of the text
            if (take("\\"))
                escape(result);
            else
                result += text_[at_++];
        }
        return result;
    }

    void escape(std::string& to) {
        constexpr std::string_view kNames = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
        if (take("u")) return append_utf8(to, code_point());
        const size_t which = at_ < text_.size() ? kNames.find(text_[at_]) : std::string_view::npos;
        if (which == std::string_view::npos) damaged();
        to += kMeanings[which];
        ++at_;
    }

    char32_t code_point() {
        const char32_t high = four_hex_digits();
        if (high < kHighSurrogates || high >= kAfterSurrogates) return high;
        must_take("\\u");
        const char32_t low = four_hex_digits();
        if (high >= kLowSurrogates || low < kLowSurrogates || low >= kAfterSurrogates) damaged();
        return 0x10000 + ((high - kHighSurrogates) << 10) + (low - kLowSurrogates);
    }

    char32_t four_hex_digits() {
        constexpr std::string_view kDigits = "0123456789abcdef";
        char32_t result = 0;
        for (int k = 0; k < 4; ++k, ++at_) {
            const size_t digit = kDigits.find(char(peek() | 0x20));
            if (digit == std::string_view::npos || (digit < 10 && !is_digit(peek()))) damaged();
            result = result * 16 + char32_t(digit);
        }
        return result;
    }

    std::string_view text_;
    const std::string& what_;
    size_t at_ = 0;
};

}  // namespace

Json Json::parse(std::string_view text, const std::string& what) {
    require(is_utf8(text), ErrorCode::kDamaged, what + " is not UTF-8: copy or download it again");
    return Parser(text, what).whole();
}

const Json* Json::find(std::string_view name) const {
    const auto found = std::find_if(members.rbegin(), members.rend(), [&](const auto& member) { return member.first == name; });
    return found == members.rend() ? nullptr : &found->second;
}

const Json& Json::at(std::string_view name, Kind wanted) const {
    const Json* found = find(name);
    require(found && found->kind == wanted, ErrorCode::kDamaged, "field " + std::string(name) + " is missing or of another kind");
    return *found;
}

int64_t Json::count() const {
    constexpr int64_t kLargest = int64_t(1) << 53;
    if (kind != kNumber) return -1;
    int64_t value = 0;
    for (const char c : text) {
        if (!is_digit(c)) return -1;
        value = 10 * value + (c - '0');
        if (value > kLargest) return -1;
    }
    return value;
}

double Json::number() const {
    std::istringstream in(text);
    in.imbue(std::locale::classic());  // whatever decimal point the program's own locale has
    double value = 0;
    in >> value;
    return value;
}

}  // namespace unmul
