#include "tensors.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "errors.h"
#include "json.h"

namespace unmul {
namespace {

constexpr uint64_t kLongestHeader = 100'000'000;  // the safetensors library's own limit
constexpr struct {
    const char* name;
    uint64_t bytes;
} kTypes[] = {{"BF16", 2}, {"F16", 2}, {"F32", 4}, {"I8", 1}, {"I32", 4}, {"U8", 1}};

void require_whole(bool condition) {
    require(condition, ErrorCode::kDamaged, "model.safetensors is not a whole safetensors file: copy or download it again");
}

uint64_t checked_count(const Json& value) {
    const int64_t count = value.count();
    require_whole(count >= 0);
    return uint64_t(count);
}

uint64_t size_of(const std::string& type) {
    const auto* found = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& each) { return type == each.name; });
    require_whole(found != std::end(kTypes));
    return found->bytes;
}

Tensor parse_tensor(const Json& entry, std::string_view data) {
    Tensor tensor{entry.at("dtype", Json::kString).text, {}, nullptr, 0};
    uint64_t bytes = size_of(tensor.type);
    for (const Json& size : entry.at("shape", Json::kArray).items) {
        tensor.shape.push_back(int64_t(checked_count(size)));
        require_whole(size.count() == 0 || bytes <= data.size() / uint64_t(size.count()));
        bytes *= uint64_t(size.count());
    }
    const std::vector<Json>& offsets = entry.at("data_offsets", Json::kArray).items;
    require_whole(offsets.size() == 2);
    const uint64_t start = checked_count(offsets[0]), end = checked_count(offsets[1]);
    require_whole(start <= end && end <= data.size() && end - start == bytes);
    tensor.data = reinterpret_cast<const uint8_t*>(data.data()) + start;
    tensor.bytes = size_t(bytes);
    return tensor;
}

// Whether the tensors cover the data without gap or overlap, as the format demands.
bool fills(const Tensors& tensors, std::string_view data) {
    std::vector<std::pair<const uint8_t*, size_t>> ranges;
    for (const auto& [_, tensor] : tensors) ranges.emplace_back(tensor.data, tensor.bytes);
    std::sort(ranges.begin(), ranges.end());
    const auto* end = reinterpret_cast<const uint8_t*>(data.data());
    for (const auto& [start, bytes] : ranges) {
        if (start != end) return false;
        end = start + bytes;
    }
    return end == reinterpret_cast<const uint8_t*>(data.data()) + data.size();
}

}  // namespace

float Tensor::value(size_t index) const {
    uint32_t bits = 0;
    if (type == "F32") {
        std::memcpy(&bits, data + 4 * index, 4);
    } else {
        uint16_t upper;
        std::memcpy(&upper, data + 2 * index, 2);
        bits = uint32_t(upper) << 16;
    }
    return std::bit_cast<float>(bits);
}

Tensors parse_tensors(std::string_view file) {
    uint64_t length = 0;
    require_whole(file.size() >= sizeof length);
    std::memcpy(&length, file.data(), sizeof length);
    require_whole(length <= std::min<uint64_t>(kLongestHeader, file.size() - sizeof length));
    const Json header = Json::parse(file.substr(sizeof length, size_t(length)), "the header of model.safetensors");
    require_whole(header.kind == Json::kObject);
    const std::string_view data = file.substr(sizeof length + size_t(length));
    Tensors tensors;
    for (const auto& [name, entry] : header.members)
        if (name != "__metadata__") tensors[name] = parse_tensor(entry, data);
    require_whole(fills(tensors, data));
    return tensors;
}

}  // namespace unmul
