"""Loss curves of runs as a figure; see docs/plot.md. Needs no PyTorch."""

from unmul.plot.curves import AXES, Run, name_apart, read_run
from unmul.plot.figure import comparable, draw

__all__ = ["AXES", "Run", "comparable", "draw", "name_apart", "read_run"]
