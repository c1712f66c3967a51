// Arena with every piece an allocation of its own, so that AddressSanitizer sees one array run into the next, which in
// one mapping it cannot. Linked into a test program, it takes the place of ../arena.cpp.
#include "../arena.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace unmul {
namespace {

// Before each piece, a cache line that chains it to the one taken before.
struct alignas(64) Link {
    char* before;
};

}  // namespace

Arena::Arena(size_t bytes) : size_(bytes) {}

Arena::~Arena() {
    while (start_) std::free(std::exchange(start_, reinterpret_cast<Link*>(start_)->before));
}

Arena::Arena(Arena&& other) noexcept { *this = std::move(other); }

Arena& Arena::operator=(Arena&& other) noexcept {
    std::swap(start_, other.start_);
    std::swap(size_, other.size_);
    std::swap(used_, other.used_);
    return *this;
}

void* Arena::take_bytes(size_t bytes) {
    used_ += rounded(bytes);
    if (used_ > size_) throw std::bad_alloc();
    char* piece = static_cast<char*>(std::aligned_alloc(alignof(Link), sizeof(Link) + rounded(bytes)));
    if (!piece) throw std::bad_alloc();
    std::memset(piece, 0, sizeof(Link) + rounded(bytes));
    reinterpret_cast<Link*>(piece)->before = std::exchange(start_, piece);
    return piece + sizeof(Link);
}

}  // namespace unmul
