#include "activations.h"

#include <cstring>

namespace unmul {
namespace {

// With the run known to the compiler, a copy is one or a few moves.
template <int kRun>
void scatter(const int8_t* row, int size, int8_t* to, size_t step) {
    for (int k = 0; k < size; k += kRun, to += step) std::memcpy(to, row + k, kRun);
}

}  // namespace

void Activations::place(int t, int tokens, const int8_t* row) const {
    const size_t step = size_t(group(t, tokens)) * grouping.run;
    switch (grouping.run) {
        case 4: return scatter<4>(row, stride, token(t), step);
        case 8: return scatter<8>(row, stride, token(t), step);
        default: return scatter<64>(row, stride, token(t), step);
    }
}

}  // namespace unmul
