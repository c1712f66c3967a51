"""Any checkpoint folder as something to measure: packed on its native engine, latent or a Llama in PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unmul.checkpoint import is_packed, read_config
from unmul.checkpoint.folder import CONFIG, read_json
from unmul.data.compressed import fingerprint
from unmul.engine import open_engine
from unmul.errors import MissingExtraError
from unmul.evaluate.bits import Predictor

__all__ = ["open_any", "weights_checksum"]


def open_any(folder: Path, device: str = "cpu") -> Predictor[Any]:
    """A packed folder on its engine; a latent one, or that of a Llama, in PyTorch.

    Raises:
        MissingExtraError: the folder needs PyTorch or transformers, which is not installed.
    """
    if not _is_llama(folder) and is_packed(folder):
        return open_engine(folder, device=device)
    try:
        return _open_llama(folder, device) if _is_llama(folder) else _open_latent(folder, device)
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


def _open_latent(folder: Path, device: str) -> Predictor[Any]:
    from unmul.evaluate.latent import open_latent

    return open_latent(folder, device)


def _open_llama(folder: Path, device: str) -> Predictor[Any]:
    from unmul.evaluate.windows import open_llama

    return open_llama(folder, device)
