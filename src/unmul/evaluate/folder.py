"""Any checkpoint folder as something to measure: packed on its native engine or as the accelerator's twin, latent or a
Llama in PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmul.checkpoint import is_packed, read_config
from unmul.checkpoint.folder import CONFIG, read_json
from unmul.data.compressed import fingerprint
from unmul.engine import open_engine
from unmul.errors import MissingExtraError, UsageError
from unmul.evaluate.bits import Predictor

if TYPE_CHECKING:
    from unmul.evaluate.windows import DType

__all__ = ["open_any", "weights_checksum"]

TWIN = "twin"  # the device that is NumPy computing what the accelerator would


def open_any(folder: Path, device: str = "cpu", dtype: DType = "fp32") -> Predictor[Any]:
    """A packed folder on its engine, or as the accelerator computes ("twin"); a latent one, or a Llama's, in PyTorch.

    Args:
        dtype: of the products of a Llama's layers.

    Raises:
        UsageError: a twin of what is not packed, or bf16 of what is no Llama.
        MissingExtraError: the folder needs PyTorch or transformers, which is not installed.
    """
    if dtype != "fp32" and not _is_llama(folder):
        raise UsageError(f"--dtype {dtype} is of a Llama's products, and {folder} is none", "leave it out")
    if not _is_llama(folder) and is_packed(folder):
        return _open_twin(folder) if device == TWIN else open_engine(folder, device=device)
    if device == TWIN:
        raise UsageError(f"--device {TWIN} runs no latent folder such as {folder}", "unmul pack it first")
    try:
        return _open_llama(folder, device, dtype) if _is_llama(folder) else _open_latent(folder, device)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "transformers"):
            raise
        raise MissingExtraError(error.name, "train") from None


def weights_checksum(folder: Path) -> str:
    """What identifies the weights of a folder: the checksum that packing wrote, or SHA-256 over its weight files."""
    if not _is_llama(folder) and is_packed(folder):
        return str(read_config(folder)[1]["quantization_config"]["checksum"])
    return "sha256:" + fingerprint(sorted(folder.glob("*.safetensors")))


def _is_llama(folder: Path) -> bool:
    return read_json(folder / CONFIG).get("model_type") == "llama"


def _open_twin(folder: Path) -> Predictor[Any]:
    from unmul.checkpoint import PackedCheckpoint
    from unmul.gateware.boards import BOARDS
    from unmul.gateware.compile import compile_model
    from unmul.gateware.fit import choose_parameters
    from unmul.gateware.twin import Twin

    packed = PackedCheckpoint.open(folder)
    return Twin(compile_model(packed, choose_parameters(packed.config, BOARDS["sim"])))


def _open_latent(folder: Path, device: str) -> Predictor[Any]:
    from unmul.evaluate.latent import open_latent

    return open_latent(folder, device)


def _open_llama(folder: Path, device: str, dtype: DType) -> Predictor[Any]:
    from unmul.evaluate.windows import open_llama

    return open_llama(folder, device, dtype)
