"""Any checkpoint folder as an engine: packed on its native engine, latent in PyTorch."""

from __future__ import annotations

from pathlib import Path

from unmul.checkpoint import is_packed, read_config
from unmul.data.compressed import fingerprint
from unmul.engine import Engine, open_engine
from unmul.errors import MissingExtraError

__all__ = ["open_any", "weights_checksum"]


def open_any(folder: Path, device: str = "cpu") -> Engine:
    """An engine over a packed folder, or over a latent one with PyTorch.

    Raises:
        MissingExtraError: the folder is latent and PyTorch is not installed.
    """
    if is_packed(folder):
        return open_engine(folder, device=device)
    try:
        from unmul.evaluate.latent import open_latent
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError("torch", "train") from None
    return open_latent(folder, device)


def weights_checksum(folder: Path) -> str:
    """What identifies the weights of a folder: the checksum that packing wrote, or SHA-256 over its weight files."""
    if is_packed(folder):
        return str(read_config(folder)[1]["quantization_config"]["checksum"])
    return "sha256:" + fingerprint(sorted(folder.glob("*.safetensors")))
