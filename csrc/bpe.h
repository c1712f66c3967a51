// Byte-level BPE from a tokenizer.json, as the tokenizers library defines it; other kinds of tokenizer are refused.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace unmul {

struct Json;

class Tokenizer {
public:
    explicit Tokenizer(std::string_view json);  // throws Error: damaged, or unsupported

    // Tokens of a text in UTF-8. Added tokens that stand in it are recognised. Throws Error where it is not UTF-8.
    std::vector<int32_t> encode(std::string_view text) const;

    // Bytes of a token: a part of a character perhaps, and nothing for a special token. Throws Error for an unknown id.
    std::string_view bytes(int32_t token) const;

    // One more than the largest id.
    size_t size() const { return bytes_.size(); }

private:
    struct Merge {
        int32_t rank, result;
    };
    struct Added {
        std::string content;
        int32_t id;
    };

    void read_vocabulary(const Json& model);
    void read_merges(const Json& model);
    void read_added(const Json& root);
    void name(int32_t id, std::string bytes);
    int32_t id(const std::string& token) const;
    const Added* added_at(std::string_view text, size_t at) const;
    void encode_plain(std::string_view text, std::vector<int32_t>& to) const;
    void encode_word(std::string_view word, std::vector<int32_t>& to) const;

    std::unordered_map<std::string, int32_t> ids_;     // by their bytes
    std::unordered_map<uint64_t, Merge> merges_;       // by both ids
    std::array<int32_t, 256> letters_;                 // ids of single bytes
    std::vector<std::string> bytes_;                   // by id
    std::vector<Added> added_;                         // longest first
};

}  // namespace unmul
