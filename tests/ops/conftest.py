"""Triton kernels on this machine: compiled where there is a GPU, else through Triton's interpreter."""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported, so before any test module does


@pytest.fixture(scope="session")
def device() -> str:
    """Where kernels are tested; tests that need them skip where Triton is not installed."""
    pytest.importorskip("triton")
    return "cuda" if torch.cuda.is_available() else "cpu"
