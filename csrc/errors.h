// What goes wrong, for callers in C, Python and JavaScript alike.
#pragma once

#include <stdexcept>
#include <string>

namespace unmul {

// Of unmul.h, where they are explained.
enum class ErrorCode { kBadArgument = 1, kCannotRead, kDamaged, kUnsupported, kNoMemory };

struct Error : std::invalid_argument {
    Error(ErrorCode code, const std::string& message) : std::invalid_argument(message), code(code) {}
    ErrorCode code;
};

// Throws Error. A build without exceptions (WebAssembly) leaves through its host instead: see web/engine.js.
[[noreturn]] void fail(ErrorCode code, const std::string& message);

// Throws std::bad_alloc, in the same way.
[[noreturn]] void fail_for_memory();

inline void require(bool condition, ErrorCode code, const std::string& message) {
    if (!condition) fail(code, message);
}

}  // namespace unmul
