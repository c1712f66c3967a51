"""Gated norm and the projection that reads it: the exit of the token mixer."""

from unmul.ops.dispatch import choose
from unmul.ops.gate_project import naive

__all__ = ["gate_project"]

gate_project = choose(naive.gate_project)
