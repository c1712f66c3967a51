"""SwiGLU and the projection that reads it: the exit of the channel mixer."""

from unmul.ops.dispatch import choose
from unmul.ops.swiglu_project import naive

__all__ = ["swiglu_project"]

swiglu_project = choose(naive.swiglu_project)
