"""Byte-level BPE: trained on the run's own text, so that every byte has a token and nothing is unknown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from unmul.data.text import END
from unmul.errors import DataError, TokenizerError
from unmul.files import write_text

__all__ = ["encode_all", "end_id", "load_tokenizer", "save_tokenizer", "train_tokenizer"]

SMALLEST = 257  # 256 bytes and the end token
LARGEST = 65536  # token ids are stored as uint16
GROUP = 64  # documents encoded at once, on all cores


def train_tokenizer(documents: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn a vocabulary of exactly vocab_size entries; `<|endoftext|>` is id 0, begin and end at once."""
    if not SMALLEST <= vocab_size <= LARGEST:
        raise DataError(f"data.vocab_size {vocab_size} is out of range", f"choose {SMALLEST} to {LARGEST}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    found = tokenizer.get_vocab_size()
    if found < vocab_size:
        raise DataError(
            f"data.vocab_size {vocab_size} is too large for the text, which gives {found} entries",
            f"choose at most {found}, or more text",
        )
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer.json that has the end token."""
    try:
        tokenizer = Tokenizer.from_str(path.read_text("utf-8"))
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read ({error.strerror})", "give a tokenizer.json") from None
    except Exception as error:  # the library raises bare Exceptions for every kind of damage
        raise TokenizerError(f"{path} is not a tokenizer ({error})", "give a tokenizer.json") from None
    if tokenizer.get_vocab_size() > LARGEST:
        raise TokenizerError(
            f"{path} has more than {LARGEST} entries", "shards store ids of 16 bits: use a smaller one"
        )
    end_id(tokenizer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json, and what transformers and generation want to know about it."""
    write_text(folder / "tokenizer.json", tokenizer.to_str())
    loader = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END, "eos_token": END}
    write_text(folder / "tokenizer_config.json", json.dumps(loader, indent=2) + "\n")
    end = end_id(tokenizer)
    generation = {"bos_token_id": end, "eos_token_id": end, "do_sample": True}
    write_text(folder / "generation_config.json", json.dumps(generation, indent=2) + "\n")


def end_id(tokenizer: Tokenizer) -> int:
    """The id of `<|endoftext|>`."""
    end = tokenizer.token_to_id(END)
    if end is None:
        raise TokenizerError(f"the tokenizer has no {END} token", "train one: leave data.tokenizer out of the recipe")
    return int(end)


def encode_all(tokenizer: Tokenizer, documents: Iterable[str]) -> Iterator[tuple[list[int], int]]:
    """Token ids and UTF-8 bytes of each document; an end token written inside a text stays text."""
    tokenizer.encode_special_tokens = True
    remaining = iter(documents)
    while group := list(islice(remaining, GROUP)):
        for text, encoding in zip(group, tokenizer.encode_batch(group, add_special_tokens=False), strict=True):
            yield encoding.ids, len(text.encode())
