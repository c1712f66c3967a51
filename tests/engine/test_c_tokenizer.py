"""Text to tokens and back in the C library against the tokenizers library, and which tokenizers it refuses."""

import ctypes
import json
import os
import random
import sys

import pytest
from clibrary import BAD_ARGUMENT, CANNOT_READ, DAMAGED, UNSUPPORTED, Failed, Info, Library, built_library
from speakers import SENTENCES
from tokenizers import Tokenizer

from unmul.data.tokenizer import save_tokenizer, train_tokenizer
from unmul.runtime.model import embedded_model

pytestmark = pytest.mark.slow  # the library is built


@pytest.fixture(scope="module")
def library() -> Library:
    return Library(built_library())


PIECES = [
    "'s", "'ll", "'LL", "'", "''t", " ", "  ", "\t", "\n\n", "\u00a0", "\u2003 ", "\ufeff", "\x85",
    "\x1c", "a", "Bc", " d", "ß", "é", "ǅ", "ʰ", "中", "\U0001d49c", "\U0001f600", "\u200d", "0", "٣",
    "½", "Ⅷ", " 7", "_", "-", "?!", " …", "\0", "\x7f", "<|endoftext|>", "<|endoftext", "|>", "the ",
    "Once upon", "\U0010ffff", "\u0300", "\ue000",
]  # fmt: skip


def test_texts_become_the_tokens_of_the_tokenizers_library(library):
    folder = embedded_model()
    ours, theirs = (
        library.new("tokenizer_open", os.fsencode(folder)),
        Tokenizer.from_file(str(folder / "tokenizer.json")),
    )
    dice = random.Random(1)
    texts = ["", *PIECES, *("".join(dice.choices(PIECES, k=dice.randrange(1, 30))) for _ in range(3000))]
    texts += ["".join(chr(dice.randrange(0xD800)) for _ in range(50)) for _ in range(200)]
    for text in texts:
        assert library.encode(ours, text) == theirs.encode(text, add_special_tokens=False).ids, repr(text)


def test_every_character_is_cut_as_the_tokenizers_library_cuts_it(library):
    folder = embedded_model()
    ours, theirs = (
        library.new("tokenizer_open", os.fsencode(folder)),
        Tokenizer.from_file(str(folder / "tokenizer.json")),
    )
    every = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    text = "".join(f"e{c} {c}1" for c in every[::5])
    assert library.encode(ours, text) == theirs.encode(text, add_special_tokens=False).ids


def test_tokens_become_the_bytes_that_the_tokenizers_library_decodes(library):
    folder = embedded_model()
    ours, theirs = (
        library.new("tokenizer_open", os.fsencode(folder)),
        Tokenizer.from_file(str(folder / "tokenizer.json")),
    )
    dice = random.Random(2)
    for _ in range(300):
        ids = [dice.randrange(2048) for _ in range(20)]
        text = b"".join(library.token_bytes(ours, token) for token in ids).decode(errors="replace")
        assert text == theirs.decode(ids, skip_special_tokens=True)


def test_a_long_word_is_cheap(library):
    tokenizer = library.new("tokenizer_open", os.fsencode(embedded_model()))
    text = "a" * 200_000  # squared, this would take minutes
    assert b"".join(library.token_bytes(tokenizer, token) for token in library.encode(tokenizer, text)).decode() == text


@pytest.mark.parametrize(
    ("edit", "status", "words"),
    [
        (lambda raw: raw["pre_tokenizer"].update(add_prefix_space=True), UNSUPPORTED, "add_prefix_space"),
        (lambda raw: raw["pre_tokenizer"].update(type="Whitespace"), UNSUPPORTED, "pre_tokenizer"),
        (lambda raw: raw["model"].update(type="Unigram"), UNSUPPORTED, "model"),
        (lambda raw: raw["model"].update(byte_fallback=True), UNSUPPORTED, "byte_fallback"),
        (lambda raw: raw.update(normalizer={"type": "NFC"}), UNSUPPORTED, "normalizer"),
        (lambda raw: raw["added_tokens"][0].update(lstrip=True), UNSUPPORTED, "lstrip"),
        (lambda raw: raw["model"]["vocab"].pop("a"), DAMAGED, "lacks a byte"),
        (lambda raw: raw["model"]["vocab"].update(a=-1), DAMAGED, "no whole number"),
        (lambda raw: raw["model"]["vocab"].update(a=2**40), DAMAGED, "no whole number"),
        (lambda raw: raw["model"].pop("merges"), DAMAGED, "merges"),
    ],
)
def test_a_tokenizer_of_another_kind_is_refused(library, tmp_path, edit, status, words):
    save_tokenizer(train_tokenizer(SENTENCES, 300), tmp_path, 0)
    raw = json.loads((tmp_path / "tokenizer.json").read_text())
    edit(raw)
    (tmp_path / "tokenizer.json").write_text(json.dumps(raw))
    with pytest.raises(Failed, match=f"{status} .*{words}"):
        library.new("tokenizer_open", os.fsencode(tmp_path))


@pytest.mark.parametrize("text", [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"])
def test_text_that_is_not_utf8_is_refused(library, text):
    tokenizer = library.new("tokenizer_open", os.fsencode(embedded_model()))
    with pytest.raises(Failed, match=f"{BAD_ARGUMENT} .*UTF-8"):
        library.call(
            "encode", tokenizer, text, ctypes.c_size_t(len(text)), None, ctypes.c_size_t(0), ctypes.byref(Info())
        )


@pytest.mark.parametrize(
    "text", ["", "{", '{"a":1,}', '{"a" 1}', "[01]", "[1.]", "[1e]", '["\\x"]', '["\\ud800"]', "[" * 200, "nul"]
)
def test_what_is_no_json_is_refused(library, tmp_path, text):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(Failed, match=f"[{CANNOT_READ}{DAMAGED}] "):
        library.new("tokenizer_open", os.fsencode(tmp_path))
