#include "sha256.h"

#include <algorithm>
#include <bit>

namespace unmul {
namespace {

constexpr size_t kBlock = 64;
constexpr uint32_t kConstants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

// Sixteen words of the block, and 48 that follow from them.
void expand(const unsigned char* bytes, uint32_t (&words)[64]) {
    for (int k = 0; k < 16; ++k, bytes += 4)
        words[k] = uint32_t(bytes[0]) << 24 | uint32_t(bytes[1]) << 16 | uint32_t(bytes[2]) << 8 | bytes[3];
    for (int k = 16; k < 64; ++k) {
        const uint32_t a = words[k - 15], b = words[k - 2];
        words[k] = words[k - 16] + (std::rotr(a, 7) ^ std::rotr(a, 18) ^ a >> 3) + words[k - 7] +
                   (std::rotr(b, 17) ^ std::rotr(b, 19) ^ b >> 10);
    }
}

}  // namespace

void Sha256::block(const unsigned char* bytes) {
    uint32_t words[64];
    expand(bytes, words);
    auto [a, b, c, d, e, f, g, h] = state_;
    for (int k = 0; k < 64; ++k) {
        const uint32_t first = h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) + ((e & f) ^ (~e & g)) +
                               kConstants[k] + words[k];
        const uint32_t second = (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
    }
    const uint32_t mixed[8] = {a, b, c, d, e, f, g, h};
    for (int k = 0; k < 8; ++k) state_[k] += mixed[k];
}

void Sha256::update(std::string_view bytes) {
    length_ += bytes.size();
    if (!rest_.empty()) {
        const size_t missing = std::min(kBlock - rest_.size(), bytes.size());
        rest_ += bytes.substr(0, missing);
        bytes.remove_prefix(missing);
        if (rest_.size() < kBlock) return;
        block(reinterpret_cast<const unsigned char*>(rest_.data()));
    }
    for (; bytes.size() >= kBlock; bytes.remove_prefix(kBlock)) block(reinterpret_cast<const unsigned char*>(bytes.data()));
    rest_ = bytes;
}

std::string Sha256::finish() {
    const uint64_t bits = 8 * length_;
    std::string padding(1 + (2 * kBlock - 9 - length_ % kBlock) % kBlock, '\0');
    padding[0] = char(0x80);
    for (int shift = 56; shift >= 0; shift -= 8) padding += char(bits >> shift);
    update(padding);
    std::string digits;
    for (const uint32_t word : state_)
        for (int shift = 28; shift >= 0; shift -= 4) digits += "0123456789abcdef"[word >> shift & 15];
    return digits;
}

}  // namespace unmul
