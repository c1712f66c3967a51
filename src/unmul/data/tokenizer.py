"""Tokenizers: byte-level BPE trained on the run's own text, so that nothing is unknown, or any tokenizer.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from unmul.data.text import END
from unmul.errors import DataError, TokenizerError, UnmulError
from unmul.files import write_text

__all__ = [
    "encode_all",
    "end_id",
    "load_tokenizer",
    "read_tokenizer",
    "refusals",
    "save_tokenizer",
    "train_tokenizer",
    "vocabulary_size",
]

SMALLEST = 257  # 256 bytes and the end token
LARGEST = 65536  # more would need 32 bits for an id
ENOUGH = 2**30  # characters that a vocabulary is learned from
GROUP = 2**22  # characters encoded at once, on all cores

# Names of published tokenizers for the token that ends a text, more specific ones first.
END_TOKENS = (END, "</s>", "<|end_of_text|>", "<eos>", "[EOS]")


def train_tokenizer(documents: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn a vocabulary of exactly vocab_size entries from the first documents; `<|endoftext|>` is id 0."""
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
    tokenizer.train_from_iterator(_first(documents, ENOUGH), trainer)
    found = tokenizer.get_vocab_size()
    if found < vocab_size:
        raise DataError(
            f"data.vocab_size {vocab_size} is too large for the text, which gives {found} entries",
            f"choose at most {found}, or more text",
        )
    return tokenizer


def read_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer.json, without what would cut or pad a text: published files often do, at a model's context."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read ({error.strerror})", "give a tokenizer.json") from None
    with refusals(f"{path} is not a tokenizer", "give a tokenizer.json"):
        tokenizer = Tokenizer.from_buffer(data)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer.json for training text, in which no special token is meant."""
    tokenizer = read_tokenizer(path)
    _take_whole_texts(tokenizer)
    return tokenizer


@contextmanager
def refusals(problem: str, remedy: str) -> Iterator[None]:
    """What the library raises, as a TokenizerError: bare Exceptions, and its panics, which are none."""
    try:
        yield
    except UnmulError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise TokenizerError(f"{problem} ({error})", remedy) from None


def save_tokenizer(tokenizer: Tokenizer, folder: Path, end: int) -> None:
    """Write tokenizer.json, and what transformers and generation want to know about it: documents begin with end."""
    write_text(folder / "tokenizer.json", tokenizer.to_str())
    token = tokenizer.id_to_token(end)
    loader = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": token, "eos_token": token}
    write_text(folder / "tokenizer_config.json", json.dumps(loader, indent=2) + "\n")
    generation = {"bos_token_id": end, "eos_token_id": end, "do_sample": True}
    write_text(folder / "generation_config.json", json.dumps(generation, indent=2) + "\n")


def end_id(tokenizer: Tokenizer, token: str | None = None) -> int:
    """The id of the token that begins and ends documents: the given one, or the first of END_TOKENS that is there.

    From then on it is special, so that the same characters in a text stay text.
    """
    for name in [token] if token else END_TOKENS:
        if (found := tokenizer.token_to_id(name)) is not None:
            tokenizer.add_special_tokens([name])
            return found
    missing = f"token {token}" if token else f"end token ({', '.join(END_TOKENS)})"
    raise TokenizerError(f"the tokenizer has no {missing}", "name one of its tokens with data.end_token")


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """Rows that an embedding needs: some tokenizers leave gaps between their ids."""
    return 1 + max(tokenizer.get_vocab().values(), default=-1)


def encode_all(tokenizer: Tokenizer, documents: Iterable[str]) -> Iterator[tuple[list[int], int]]:
    """Token ids and UTF-8 bytes of each document; special tokens written inside a text stay text.

    All cores encode a group of documents at a time; memory holds one group, or the longest document.
    """
    _take_whole_texts(tokenizer)
    for group in _groups(documents):
        with refusals("the tokenizer cannot read the text", "give the tokenizer.json of a published model"):
            encodings = tokenizer.encode_batch_fast(group, add_special_tokens=False)  # fast: without offsets
        for text, encoding in zip(group, encodings, strict=True):
            yield encoding.ids, len(text.encode())


def _first(documents: Iterable[str], characters: int) -> Iterator[str]:
    for text in documents:
        if characters <= 0:
            return
        characters -= len(text)
        yield text


def _groups(documents: Iterable[str]) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for text in documents:
        group.append(text)
        size += len(text)
        if size >= GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


def _take_whole_texts(tokenizer: Tokenizer) -> None:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
