"""The recurrence h_t = f_t h_{t-1} + i_t, the only place where tokens meet."""

from unmul.ops.scan.sequential import scan

__all__ = ["scan"]
