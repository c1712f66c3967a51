"""Residual add, RMSNorm, and the projections that read it: the entrance of both mixers."""

from unmul.ops.dispatch import choose
from unmul.ops.norm_project import naive

__all__ = ["norm_project"]

norm_project = choose(naive.norm_project)
