"""The MatMul-free language model in PyTorch: plain, readable, the reference for every other backend."""

from unmul.model.bitlinear import BitLinear, TernaryLinear
from unmul.model.load import build_model, load_model, save_model
from unmul.model.model import MatMulFreeLM, Output, initialise

__all__ = [
    "BitLinear",
    "MatMulFreeLM",
    "Output",
    "TernaryLinear",
    "build_model",
    "initialise",
    "load_model",
    "save_model",
]
