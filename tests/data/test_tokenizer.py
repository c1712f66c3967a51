"""data.tokenizer: every byte has a token, the vocabulary has the size asked for, the end token is no text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmul.data.text import END
from unmul.data.tokenizer import encode_all, end_id, load_tokenizer, save_tokenizer, train_tokenizer
from unmul.errors import DataError, TokenizerError

TEXT = ["the cat sat on the mat\n", "the dog and the cat\n"] * 3
TOKENIZER = train_tokenizer(TEXT, 270)


@given(st.text(min_size=1))
def test_any_text_survives_encoding_and_decoding(text):
    ((ids, size),) = encode_all(TOKENIZER, [text])
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text
    assert size == len(text.encode())
    assert end_id(TOKENIZER) not in ids


def test_the_vocabulary_has_the_size_asked_for_with_the_end_token_first():
    assert TOKENIZER.get_vocab_size() == 270
    assert TOKENIZER.token_to_id(END) == 0


def test_training_twice_gives_the_same_tokenizer():
    assert train_tokenizer(TEXT, 270).to_str() == TOKENIZER.to_str()


def test_a_vocabulary_too_large_for_the_text_names_what_the_text_gives():
    with pytest.raises(DataError, match=r"data\.vocab_size 5000 is too large for the text, which gives 2\d\d entries"):
        train_tokenizer(TEXT, 5000)


@pytest.mark.parametrize("size", [256, 65537])
def test_vocabularies_that_bytes_or_16_bits_cannot_hold_are_refused(size):
    with pytest.raises(DataError, match=f"data.vocab_size {size} is out of range"):
        train_tokenizer(TEXT, size)


def test_saving_and_loading_keeps_the_tokenizer(tmp_path):
    save_tokenizer(TOKENIZER, tmp_path)
    assert load_tokenizer(tmp_path / "tokenizer.json").to_str() == TOKENIZER.to_str()


def test_transformers_loads_what_is_saved(tmp_path):
    transformers = pytest.importorskip("transformers")
    save_tokenizer(TOKENIZER, tmp_path)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (loaded.bos_token_id, loaded.eos_token_id) == (0, 0)
    assert loaded("the cat")["input_ids"] == TOKENIZER.encode("the cat").ids


@pytest.mark.parametrize(
    "content", ["", "{}", '{"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}}']
)
def test_files_that_are_no_usable_tokenizer_are_refused(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError):
        load_tokenizer(tmp_path / "tokenizer.json")
