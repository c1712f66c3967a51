"""Small models for tests: random weights of a fixed seed, with a byte-level tokenizer trained on a few sentences."""

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from unmul.checkpoint import pack, save_latent
from unmul.config import ModelConfig

END = "<|endoftext|>"
SENTENCES = ["Once upon a time there was a little house.", "The sun rose and the birds sang, one by one: déjà vu!"]
SHAPE = ModelConfig(
    vocab_size=300, hidden_size=64, num_hidden_layers=2, intermediate_size=96, bos_token_id=0, eos_token_id=0
)


def save_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=SHAPE.vocab_size, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))


def random_tensor(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    if name.endswith("norm.weight"):
        return np.ones(shape, np.float32)
    rng = np.random.default_rng([seed, *name.encode()])
    return rng.normal(0, 0.02 if "embeddings" not in name else 1, shape).astype(np.float32)


def make_latent(folder: Path, config: ModelConfig = SHAPE, *, seed: int = 0, tokenizer: bool = True) -> Path:
    """A latent folder with random weights."""
    shapes = config.tensor_shapes
    companions = save_tokenizer if tokenizer else lambda _: None
    save_latent(folder, config, lambda name: random_tensor(name, shapes[name], seed), companions=companions)
    return folder


def make_packed(folder: Path, config: ModelConfig = SHAPE, *, seed: int = 0, tokenizer: bool = True) -> Path:
    """A packed folder of the same weights, its latent one beside it as <name>.latent."""
    latent = make_latent(folder.with_name(folder.name + ".latent"), config, seed=seed, tokenizer=tokenizer)
    pack(latent, folder)
    return folder
