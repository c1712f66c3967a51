"""The checkpoint folder: latent (published layout) or packed (1.6 bits a weight). See docs/formats.md."""

from unmul.checkpoint.folder import TOKENIZER, read_config
from unmul.checkpoint.latent import read_latent, save_latent
from unmul.checkpoint.packed import PackedCheckpoint, PackReport, codes_are_fixed, is_packed, pack, unpack, write_packed

__all__ = [
    "TOKENIZER",
    "PackReport",
    "PackedCheckpoint",
    "codes_are_fixed",
    "is_packed",
    "pack",
    "read_config",
    "read_latent",
    "save_latent",
    "unpack",
    "write_packed",
]
