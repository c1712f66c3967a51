// A safetensors file in memory: names, types and shapes, and where their bytes are.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace unmul {

struct Tensor {
    std::string type;  // "U8", "I8", "BF16", "F32", ...
    std::vector<int64_t> shape;
    const uint8_t* data;
    size_t bytes;

    // Value `index` of a BF16 or F32 tensor.
    float value(size_t index) const;
};

using Tensors = std::map<std::string, Tensor>;

// Views of a file that must outlive them. Throws Error unless the file is whole and has neither gap nor overlap.
Tensors parse_tensors(std::string_view file);

}  // namespace unmul
