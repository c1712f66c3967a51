"""The packed model on an NVIDIA GPU; needs the extra `cuda`, no CUDA toolkit. See docs/engine.md."""

from unmul.engine.cuda.engine import CudaEngine

__all__ = ["CudaEngine"]
