// ULX3S: the pads and the SDRAM behind them.
#include "sdram.h"

using sdram::Pads;

#include "serial.h"
