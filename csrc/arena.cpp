#include "arena.h"

#include <sys/mman.h>

#include <new>
#include <utility>

namespace unmul {
namespace {

constexpr size_t kHugePage = size_t(2) << 20;

}  // namespace

Arena::Arena(size_t bytes) : size_(bytes) {
    if (bytes == 0) return;
    void* start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) throw std::bad_alloc();
    start_ = static_cast<char*>(start);
#ifdef MADV_HUGEPAGE
    // A hint: fewer address translations while weights stream. Small arenas would only waste memory by it.
    if (bytes >= 4 * kHugePage) madvise(start, bytes, MADV_HUGEPAGE);
#endif
}

Arena::~Arena() {
    if (start_) munmap(start_, size_);
}

Arena::Arena(Arena&& other) noexcept { *this = std::move(other); }

Arena& Arena::operator=(Arena&& other) noexcept {
    std::swap(start_, other.start_);
    std::swap(size_, other.size_);
    std::swap(used_, other.used_);
    return *this;
}

void* Arena::take_bytes(size_t bytes) {
    const size_t offset = used_;
    used_ += rounded(bytes);
    if (used_ > size_) throw std::bad_alloc();
    return start_ + offset;
}

}  // namespace unmul
