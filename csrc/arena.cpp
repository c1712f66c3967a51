#include "arena.h"

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#else
#include <cstring>
#endif

#include <new>
#include <utility>

#include "errors.h"

namespace unmul {
namespace {

#if defined(__unix__) || defined(__APPLE__)

char* zeroed(size_t bytes) {
    void* start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return nullptr;
#ifdef MADV_HUGEPAGE
    constexpr size_t kHugePage = size_t(2) << 20;
    // A hint: fewer address translations while weights stream. Small arenas would only waste memory by it.
    if (bytes >= 4 * kHugePage) madvise(start, bytes, MADV_HUGEPAGE);
#endif
    return static_cast<char*>(start);
}

void give_back(char* start, size_t bytes) { munmap(start, bytes); }

#else

constexpr std::align_val_t kAlignment{64};

char* zeroed(size_t bytes) {
    void* start = ::operator new(bytes, kAlignment, std::nothrow);
    return start ? static_cast<char*>(std::memset(start, 0, bytes)) : nullptr;
}

void give_back(char* start, size_t) { ::operator delete(start, kAlignment); }

#endif

}  // namespace

Arena::Arena(size_t bytes) : size_(bytes) {
    if (bytes == 0) return;
    start_ = zeroed(bytes);
    if (!start_) fail_for_memory();
}

Arena::~Arena() {
    if (start_) give_back(start_, size_);
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
    if (used_ > size_) fail_for_memory();
    return start_ + offset;
}

}  // namespace unmul
