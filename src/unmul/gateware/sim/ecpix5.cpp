// ECPIX-5: the DDR3 at its pins.
#include "ddr3.h"

using ddr3::Pads;

#include "serial.h"

// How late a byte's pins answer, in half cycles of their clock; a byte that is later than any never does.
extern "C" void board_delay(Board* board, unsigned byte, unsigned half_cycles) {
    board->pads.part.delay(byte, half_cycles);
}
