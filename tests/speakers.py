"""Small checkpoints that speak: random weights, and a byte-level tokenizer trained on a few sentences."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from models import latent_folder

from unmul.checkpoint import pack
from unmul.config import ModelConfig
from unmul.data.tokenizer import save_tokenizer, train_tokenizer

__all__ = ["SPEAKER", "run_unmul", "speaking_latent", "speaking_packed"]

SENTENCES = ["Once upon a time there was a little house.", "The sun rose and the birds sang, one by one: déjà vu!"]
SPEAKER = ModelConfig(
    vocab_size=300, hidden_size=64, num_hidden_layers=2, intermediate_size=96, bos_token_id=0, eos_token_id=0
)


def speaking_latent(folder: Path, config: ModelConfig = SPEAKER, seed: int = 0, **options: Any) -> Path:
    """A latent checkpoint with its tokenizer; options as for checkpoint.save_latent."""
    tokenizer = train_tokenizer(SENTENCES, 300)
    return latent_folder(folder, config, seed, companions=lambda new: save_tokenizer(tokenizer, new, 0), **options)


def speaking_packed(folder: Path, config: ModelConfig = SPEAKER, seed: int = 0) -> Path:
    """The same, packed; the latent one stays beside it as <name>.latent."""
    pack(speaking_latent(folder.with_name(folder.name + ".latent"), config, seed), folder)
    return folder


def run_unmul(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """One command line in a process of its own."""
    command = [sys.executable, "-m", "unmul", *map(str, words)]
    options = {"stdin": subprocess.DEVNULL} | options if "input" not in options else options
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)
