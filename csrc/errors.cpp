#include "errors.h"

#include <cstdlib>
#include <new>

namespace unmul {

#if defined(__cpp_exceptions)
void fail(ErrorCode code, const std::string& message) { throw Error(code, message); }

void fail_for_memory() { throw std::bad_alloc(); }
#else
extern "C" __attribute__((import_module("unmul"), import_name("fail"))) void host_fail(int code, const char* message,
                                                                                       size_t size);

void fail(ErrorCode code, const std::string& message) {
    host_fail(int(code), message.data(), message.size());
    std::abort();
}

void fail_for_memory() { fail(ErrorCode::kNoMemory, "not enough memory"); }
#endif

}  // namespace unmul
