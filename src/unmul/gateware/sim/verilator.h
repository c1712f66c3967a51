// The core as Verilator has it: its ports are members by their names.
#include <cstddef>
#include <cstring>

#include "Vcore.h"
#include "verilated.h"

struct Context {
    VerilatedContext context;
};

struct Core : Context, Vcore {
    Core() : Vcore(&context) {}

    void put_data(const void* bytes, size_t count) { std::memcpy(&data, bytes, count); }
};
