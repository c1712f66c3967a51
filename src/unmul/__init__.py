"""unmul: the complete open stack for MatMul-free language models."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmul import errors
    from unmul.checkpoint import pack, unpack
    from unmul.engine.sampler import SamplingParams
    from unmul.runtime import Model, load

__all__ = ["Model", "SamplingParams", "__version__", "errors", "load", "pack", "unpack"]

__version__ = "0.1.0"

_HOMES = {
    "Model": "unmul.runtime",
    "SamplingParams": "unmul.engine.sampler",
    "load": "unmul.runtime",
    "pack": "unmul.checkpoint",
    "unpack": "unmul.checkpoint",
}


def __getattr__(name: str) -> Any:
    """Import an exported name when it is first asked for, so that `import unmul` stays light."""
    if name == "errors":
        return import_module("unmul.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'unmul' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
