// SHA-256 (FIPS 180-4).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace unmul {

class Sha256 {
public:
    void update(std::string_view bytes);
    // The digest in hexadecimal digits; nothing may follow.
    std::string finish();

private:
    void block(const unsigned char* bytes);

    uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint64_t length_ = 0;
    std::string rest_;  // less than a block
};

}  // namespace unmul
