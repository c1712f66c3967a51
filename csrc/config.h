// config.json of a packed folder: what unmul.config.ModelConfig and unmul.checkpoint.packed read of it.
#pragma once

#include <string>
#include <string_view>

#include "model.h"

namespace unmul {

struct Config {
    Shape shape;
    bool use_lower_bound;
    bool int8_embeddings;  // else bf16
    int begin, end;        // tokens, -1 where there is none
    std::string checksum;  // as the file has it
    std::string meaning;   // what the checksum covers beside the weights
};

// Throws Error: damaged, or unsupported.
Config parse_config(std::string_view text);

}  // namespace unmul
