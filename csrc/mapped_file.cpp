#include "mapped_file.h"

#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#else
#include <cstdio>
#endif

#include "errors.h"

namespace unmul {
namespace {

[[noreturn]] void cannot_read(const std::string& path) {
    fail(ErrorCode::kCannotRead, path + " cannot be read: give the folder of a packed model");
}

}  // namespace

#if defined(__unix__) || defined(__APPLE__)

MappedFile::MappedFile(const std::string& path) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat status {};
    void* start = MAP_FAILED;
    if (file >= 0 && fstat(file, &status) == 0 && status.st_size > 0)
        start = mmap(nullptr, size_t(status.st_size), PROT_READ, MAP_PRIVATE, file, 0);
    if (file >= 0) close(file);
    if (start == MAP_FAILED) cannot_read(path);
    bytes_ = {static_cast<const char*>(start), size_t(status.st_size)};
}

MappedFile::~MappedFile() {
    if (!bytes_.empty()) munmap(const_cast<char*>(bytes_.data()), bytes_.size());
}

void MappedFile::release_pages() const {
    if (!bytes_.empty()) madvise(const_cast<char*>(bytes_.data()), bytes_.size(), MADV_DONTNEED);
}

#else

MappedFile::MappedFile(const std::string& path) {
    std::FILE* file = std::fopen(path.c_str(), "rb");
    if (!file) cannot_read(path);
    char part[1 << 16];
    while (const size_t size = std::fread(part, 1, sizeof part, file)) copy_.append(part, size);
    std::fclose(file);
    if (copy_.empty()) cannot_read(path);
    bytes_ = copy_;
}

MappedFile::~MappedFile() = default;

void MappedFile::release_pages() const {}

#endif

}  // namespace unmul
