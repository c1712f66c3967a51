// Zeroed, 64-byte aligned memory taken from the system in one piece, on huge pages where it can be.
#pragma once

#include <cstddef>

namespace unmul {

class Arena {
public:
    Arena() = default;
    explicit Arena(size_t bytes);  // throws std::bad_alloc
    ~Arena();
    Arena(Arena&& other) noexcept;
    Arena& operator=(Arena&& other) noexcept;

    // The next `count` values, on a cache line of their own.
    template <class T>
    T* take(size_t count) {
        return static_cast<T*>(take_bytes(count * sizeof(T)));
    }

    size_t size() const { return size_; }

    // What take() uses of the arena for so many bytes.
    static constexpr size_t rounded(size_t bytes) { return (bytes + 63) / 64 * 64; }

private:
    void* take_bytes(size_t bytes);

    char* start_ = nullptr;
    size_t size_ = 0;
    size_t used_ = 0;
};

}  // namespace unmul
