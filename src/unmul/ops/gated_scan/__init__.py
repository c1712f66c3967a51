"""The gates of the token mixer and the recurrence h_t = f_t h_{t-1} + i_t, the only place where tokens meet."""

from unmul.ops.dispatch import choose
from unmul.ops.gated_scan import naive
from unmul.ops.gated_scan.naive import PADDING, START

__all__ = ["PADDING", "START", "gated_scan"]

gated_scan = choose(naive.gated_scan)
