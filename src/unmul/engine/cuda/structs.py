"""What kernels are given, as shape.cuh and stream.cuh declare it."""

from __future__ import annotations

import ctypes

__all__ = ["MOST_SEQUENCES", "Call", "Choice", "Chunk", "DeviceModel", "Matrix", "Quantised", "Workspace"]

MOST_SEQUENCES = 64  # kMostSequences

_Address = ctypes.c_uint64


class DeviceModel(ctypes.Structure):
    """Model: addresses of the weights and of all else that does not change."""

    _fields_ = [(name, _Address) for name in ("weights", "gains", "bounds", "scales", "embeddings", "embedding_scales")]


class Quantised(ctypes.Structure):
    """Quantised: rows of codes with their factors and sums; tokens is the capacity."""

    _fields_ = [("q", _Address), ("factor", _Address), ("sum", _Address), ("tokens", ctypes.c_int32)]


class Workspace(ctypes.Structure):
    """Workspace: activations of one pass."""

    _fields_ = [
        *[(name, _Address) for name in ("x", "gate", "hidden", "wide")],
        ("input", Quantised),
        *[(name, _Address) for name in ("logits", "best", "next", "weights", "sums", "barrier", "timed")],
    ]


class Call(ctypes.Structure):
    """Call: one launch of the decoder."""

    _fields_ = [
        *[(name, _Address) for name in ("ids", "written", "states", "choices")],
        *[(name, ctypes.c_int32) for name in ("batch", "count", "end")],
        ("time", ctypes.c_uint32),
    ]


class Choice(ctypes.Structure):
    """Choice: how one text's tokens are drawn."""

    _fields_ = [
        ("temperature", ctypes.c_double),
        ("top_p", ctypes.c_double),
        ("random", ctypes.c_uint64),
        ("top_k", ctypes.c_int32),
    ]


class Chunk(ctypes.Structure):
    """Chunk: tokens of one text and the layer at work."""

    _fields_ = [
        *[(name, _Address) for name in ("ids", "state", "mixed")],
        *[(name, ctypes.c_int32) for name in ("tokens", "first", "layer")],
    ]


class Matrix(ctypes.Structure):
    """Matrix: the file's bytes of a projection, and where their tiles go."""

    _fields_ = [
        *[(name, _Address) for name in ("trits", "words", "damaged")],
        *[(name, ctypes.c_int32) for name in ("rows", "columns", "first", "step")],
    ]
