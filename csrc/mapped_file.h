// The bytes of a file: mapped where the system can do it, else read.
#pragma once

#include <string>
#include <string_view>

namespace unmul {

class MappedFile {
public:
    MappedFile() = default;
    explicit MappedFile(const std::string& path);  // throws Error
    ~MappedFile();
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;

    std::string_view bytes() const { return bytes_; }

    // Gives the memory of the pages back; whoever reads them again reads the file again.
    void release_pages() const;

private:
    std::string_view bytes_;
    std::string copy_;
};

}  // namespace unmul
