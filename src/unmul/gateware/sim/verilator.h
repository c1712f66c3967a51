// The core as Verilator has it: its ports are members by their names.
#include <cstddef>
#include <cstring>

#include "Vcore.h"
#include "verilated.h"

void Vcore___024root___eval(Vcore___024root* root);  // Verilator's own

struct Context {
    VerilatedContext context;
};

struct Core : Context, Vcore {
    Core() : Vcore(&context) { Vcore::eval(); }

    // Vcore::eval without its locks for objects and messages, which the core has none of: 7 % of a token.
    void eval() { Vcore___024root___eval(rootp); }

    void put_data(const void* bytes, size_t count) { std::memcpy(&data, bytes, count); }
};
