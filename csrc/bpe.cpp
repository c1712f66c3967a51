#include "bpe.h"

#include <algorithm>
#include <queue>

#include "errors.h"
#include "json.h"
#include "utf8.h"

namespace unmul {
namespace {

enum Class : uint8_t { kOther, kLetter, kNumber, kSpace };

constexpr struct {
    char32_t first, last;
    Class kind;
} kClasses[] = {
#include "unicode.inc"
};

Class class_of(char32_t code) {
    const auto* found = std::upper_bound(std::begin(kClasses), std::end(kClasses), code,
                                         [](char32_t wanted, const auto& run) { return wanted < run.first; });
    return found != std::begin(kClasses) && code <= (found - 1)->last ? (found - 1)->kind : kOther;
}

struct Character {
    size_t start;  // byte in the text
    char32_t code;
    Class kind;
};

std::vector<Character> characters(std::string_view text) {
    std::vector<Character> result;
    for (size_t at = 0; at < text.size();) {
        const size_t start = at;
        const char32_t code = next_code_point(text, at);
        result.push_back({start, code, class_of(code)});
    }
    return result;
}

// Length of a contraction at `at`, or 0.
size_t contraction(const std::vector<Character>& text, size_t at) {
    if (text[at].code != '\'') return 0;
    for (const std::u32string_view ending : {U"s", U"t", U"re", U"ve", U"m", U"ll", U"d"}) {
        size_t k = 0;
        while (k < ending.size() && at + 1 + k < text.size() && text[at + 1 + k].code == ending[k]) ++k;
        if (k == ending.size()) return 1 + k;
    }
    return 0;
}

// Where the word at `at` ends: GPT-2's regular expression
// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
size_t word_end(const std::vector<Character>& text, size_t at) {
    if (const size_t length = contraction(text, at)) return at + length;
    const size_t first = text[at].code == ' ' && at + 1 < text.size() ? at + 1 : at;
    const Class kind = text[first].kind;
    size_t end = kind == kSpace ? at : first;
    while (end < text.size() && text[end].kind == kind) ++end;
    const bool leaves_one = kind == kSpace && end < text.size() && end - at > 1;  // for the word that follows
    return leaves_one ? end - 1 : end;
}

// The byte-level alphabet: printable bytes stand for themselves, the others for code points from 256 on.
std::unordered_map<char32_t, char> alphabet() {
    const auto printable = [](int b) { return (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE; };
    std::unordered_map<char32_t, char> bytes;
    char32_t next = 256;
    for (int b = 0; b < 256; ++b) bytes[printable(b) ? char32_t(b) : next++] = char(b);
    return bytes;
}

// The bytes of a token of the vocabulary; as it stands where it is not written in the alphabet.
std::string bytes_of(const std::string& token) {
    static const std::unordered_map<char32_t, char> bytes = alphabet();
    std::string result;
    for (size_t at = 0; at < token.size();) {
        const auto found = bytes.find(next_code_point(token, at));
        if (found == bytes.end()) return token;
        result += found->second;
    }
    return result;
}

[[noreturn]] void unsupported(const std::string& what) {
    fail(ErrorCode::kUnsupported, "tokenizer.json: " + what + " is not supported: byte-level BPE as `unmul train` makes it is");
}

bool is_on(const Json& object, const char* field) {
    const Json* found = object.find(field);
    return found && found->kind != Json::kNull && found->text != "false";
}

void check_kind(const Json& root) {
    if (is_on(root, "normalizer")) unsupported("a normalizer");
    const Json& cutter = root.at("pre_tokenizer", Json::kObject);
    if (cutter.at("type", Json::kString).text != "ByteLevel") unsupported("this pre_tokenizer");
    if (is_on(cutter, "add_prefix_space")) unsupported("add_prefix_space");
    const Json* regex = cutter.find("use_regex");
    if (regex && regex->text == "false") unsupported("use_regex false");
    const Json& model = root.at("model", Json::kObject);
    if (model.at("type", Json::kString).text != "BPE") unsupported("this model");
    for (const char* field : {"dropout", "byte_fallback", "ignore_merges", "unk_token"})
        if (is_on(model, field)) unsupported(field);
    for (const char* field : {"continuing_subword_prefix", "end_of_word_suffix"})
        if (const Json* found = model.find(field); found && !found->text.empty()) unsupported(field);
}

uint64_t pair_of(int32_t left, int32_t right) { return uint64_t(uint32_t(left)) << 32 | uint32_t(right); }

}  // namespace

Tokenizer::Tokenizer(std::string_view json) {
    const Json root = Json::parse(json, "tokenizer.json");
    check_kind(root);
    const Json& model = root.at("model", Json::kObject);
    read_vocabulary(model);
    read_merges(model);
    read_added(root);
}

void Tokenizer::name(int32_t id, std::string bytes) {
    constexpr int32_t kMost = 1 << 24;
    require(id >= 0 && id < kMost, ErrorCode::kDamaged, "tokenizer.json: an id is no whole number");
    if (bytes_.size() <= size_t(id)) bytes_.resize(size_t(id) + 1);
    bytes_[size_t(id)] = std::move(bytes);
}

void Tokenizer::read_vocabulary(const Json& model) {
    for (const auto& [token, id] : model.at("vocab", Json::kObject).members) {
        const std::string bytes = bytes_of(token);
        name(int32_t(std::min<int64_t>(id.count(), INT32_MAX)), bytes);
        ids_[bytes] = int32_t(id.count());
    }
    for (int b = 0; b < 256; ++b) letters_[size_t(b)] = id(std::string(1, char(b)));
}

int32_t Tokenizer::id(const std::string& token) const {
    const auto found = ids_.find(token);
    require(found != ids_.end(), ErrorCode::kDamaged, "tokenizer.json: the vocabulary lacks a byte, or a part of a merge");
    return found->second;
}

void Tokenizer::read_merges(const Json& model) {
    int32_t rank = 0;
    for (const Json& merge : model.at("merges", Json::kArray).items) {
        const size_t space = merge.text.find(' ');
        const bool pair = merge.items.size() == 2;
        require(pair || space != std::string::npos, ErrorCode::kDamaged, "tokenizer.json: a merge is no pair");
        const std::string left = bytes_of(pair ? merge.items[0].text : merge.text.substr(0, space));
        const std::string right = bytes_of(pair ? merge.items[1].text : merge.text.substr(space + 1));
        merges_[pair_of(id(left), id(right))] = {rank++, id(left + right)};
    }
}

void Tokenizer::read_added(const Json& root) {
    for (const Json& token : root.at("added_tokens", Json::kArray).items) {
        for (const char* field : {"single_word", "lstrip", "rstrip"})
            if (is_on(token, field)) unsupported(std::string("an added token with ") + field);
        const int64_t id = token.at("id", Json::kNumber).count();
        const std::string& content = token.at("content", Json::kString).text;
        require(!content.empty(), ErrorCode::kDamaged, "tokenizer.json: an added token is empty");
        name(int32_t(std::min<int64_t>(id, INT32_MAX)), is_on(token, "special") ? "" : content);
        added_.push_back({content, int32_t(id)});
    }
    std::sort(added_.begin(), added_.end(),
              [](const Added& a, const Added& b) { return a.content.size() > b.content.size(); });
}

std::string_view Tokenizer::bytes(int32_t token) const {
    require(token >= 0 && size_t(token) < bytes_.size(), ErrorCode::kBadArgument,
            "token id " + std::to_string(token) + " is not in the vocabulary");
    return bytes_[size_t(token)];
}

const Tokenizer::Added* Tokenizer::added_at(std::string_view text, size_t at) const {
    for (const Added& token : added_)
        if (text.substr(at, token.content.size()) == token.content) return &token;
    return nullptr;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
    require(is_utf8(text), ErrorCode::kBadArgument, "the text is not valid UTF-8: convert it");
    std::vector<int32_t> ids;
    size_t plain = 0;
    for (size_t at = 0; at < text.size();) {
        const Added* token = added_at(text, at);
        if (!token) {
            ++at;
            continue;
        }
        encode_plain(text.substr(plain, at - plain), ids);
        ids.push_back(token->id);
        plain = at += token->content.size();
    }
    encode_plain(text.substr(plain), ids);
    return ids;
}

void Tokenizer::encode_plain(std::string_view text, std::vector<int32_t>& to) const {
    const std::vector<Character> all = characters(text);
    const auto start = [&](size_t k) { return k < all.size() ? all[k].start : text.size(); };
    for (size_t at = 0; at < all.size();) {
        const size_t end = word_end(all, at);
        encode_word(text.substr(start(at), start(end) - start(at)), to);
        at = end;
    }
}

// The merge of lowest rank first, the leftmost of equals; a queue of candidates keeps long words cheap.
void Tokenizer::encode_word(std::string_view word, std::vector<int32_t>& to) const {
    struct Symbol {
        int32_t id, before, after;  // neighbours, -1 at the ends; id -1 once it is merged into another
    };
    struct Candidate {
        int32_t rank, left, result;
        uint64_t pair;
        bool operator>(const Candidate& other) const {
            return rank != other.rank ? rank > other.rank : left > other.left;
        }
    };
    std::vector<Symbol> symbols;
    for (const char byte : word) {
        const auto at = int32_t(symbols.size());
        symbols.push_back({letters_[static_cast<unsigned char>(byte)], at - 1, at + 1});
    }
    symbols.back().after = -1;
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
    const auto consider = [&](int32_t left) {
        if (left < 0 || symbols[left].after < 0) return;
        const uint64_t pair = pair_of(symbols[left].id, symbols[symbols[left].after].id);
        if (const auto found = merges_.find(pair); found != merges_.end())
            queue.push({found->second.rank, left, found->second.result, pair});
    };
    for (int32_t k = 0; k < int32_t(symbols.size()); ++k) consider(k);
    while (!queue.empty()) {
        const Candidate best = queue.top();
        queue.pop();
        Symbol& left = symbols[best.left];
        if (left.id < 0 || left.after < 0 || pair_of(left.id, symbols[left.after].id) != best.pair) continue;  // gone
        Symbol& right = symbols[left.after];
        left.id = best.result;
        left.after = right.after;
        right.id = -1;
        if (left.after >= 0) symbols[left.after].before = best.left;
        consider(left.before);
        consider(best.left);
    }
    for (int32_t k = 0; k >= 0; k = symbols[k].after) to.push_back(symbols[k].id);
}

}  // namespace unmul
