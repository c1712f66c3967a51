"""data.tokenizer: every byte has a token, the vocabulary has the size asked for, the end token is no text."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

from unmul.data import tokenizer
from unmul.data.text import END
from unmul.data.tokenizer import (
    encode_all,
    end_id,
    load_tokenizer,
    save_tokenizer,
    train_tokenizer,
    vocabulary_size,
)
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


def test_a_vocabulary_is_learned_from_the_first_documents_of_a_huge_text(monkeypatch):
    monkeypatch.setattr(tokenizer, "ENOUGH", 50)
    endless = itertools.cycle(TEXT)
    assert train_tokenizer(endless, 262).get_vocab_size() == 262


def test_groups_of_any_size_encode_alike(monkeypatch):
    expected = list(encode_all(TOKENIZER, TEXT))
    for group in (1, 50):
        monkeypatch.setattr(tokenizer, "GROUP", group)
        assert list(encode_all(TOKENIZER, TEXT)) == expected


def test_saving_and_loading_keeps_the_tokenizer(tmp_path):
    save_tokenizer(TOKENIZER, tmp_path, 0)
    assert load_tokenizer(tmp_path / "tokenizer.json").to_str() == TOKENIZER.to_str()


@pytest.mark.parametrize(
    ("make", "end"), [(lambda: TOKENIZER, 0), (lambda: sentencepiece_like(), 2)], ids=["own", "sp"]
)
def test_transformers_loads_what_is_saved(tmp_path, make, end):
    transformers = pytest.importorskip("transformers")
    save_tokenizer(make(), tmp_path, end)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (loaded.bos_token_id, loaded.eos_token_id) == (end, end)
    assert loaded("the cat")["input_ids"] == make().encode("the cat").ids


@pytest.mark.parametrize("content", ["", "{}", "[1]"])
def test_files_that_are_no_tokenizer_are_refused(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is not a tokenizer"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_a_tokenizer_with_end_tokens_of_another_name_is_used_with_its_own():
    assert end_id(sentencepiece_like()) == 2
    assert end_id(sentencepiece_like(), "<s>") == 1
    assert [ids for ids, _ in encode_all(sentencepiece_like(), ["the cat"])] == [
        sentencepiece_like().encode("the cat").ids
    ]


def test_an_end_token_that_is_not_there_is_refused_with_what_to_set():
    bare = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    with pytest.raises(TokenizerError, match=r"no end token \(<\|endoftext\|>, </s>.*: name one .* data\.end_token"):
        end_id(bare)
    with pytest.raises(TokenizerError, match=r"no token </x>: name one of its tokens with data\.end_token"):
        end_id(sentencepiece_like(), "</x>")


@pytest.mark.parametrize("special", [True, False])
def test_the_characters_of_an_end_token_in_a_text_stay_text(special):
    other = train_tokenizer(TEXT, 270)
    other.add_tokens([AddedToken("<end>", special=special)])
    end = end_id(other, "<end>")
    ((ids, _),) = encode_all(other, ["the <end> of the cat"])
    assert end not in ids
    assert other.decode(ids, skip_special_tokens=False) == "the <end> of the cat"


def test_a_tokenizer_that_would_cut_or_pad_takes_whole_texts(tmp_path):
    cutting = train_tokenizer(TEXT, 270)
    cutting.enable_truncation(4)
    cutting.enable_padding(length=64)
    save_tokenizer(cutting, tmp_path, 0)
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    expected = list(encode_all(TOKENIZER, TEXT))
    assert list(encode_all(loaded, TEXT)) == list(encode_all(cutting, TEXT)) == expected
    assert loaded.to_str() == TOKENIZER.to_str()


def test_the_vocabulary_counts_gaps_between_ids():
    vocabulary = {"a": 0, "b": 1, "</s>": 9}
    assert vocabulary_size(Tokenizer(models.BPE(vocab=vocabulary, merges=[]))) == 10


def test_the_published_sentencepiece_vocabulary_gives_its_own_ids(shared):
    sentencepiece = pytest.importorskip("sentencepiece")
    reference = sentencepiece.SentencePieceProcessor(model_file=str(shared / "data/tokenizer/mistral-v1-32k.model"))
    published = from_sentencepiece(reference)
    assert (vocabulary_size(published), end_id(published)) == (32000, 2)
    texts = ["Once upon a time,  there was\n\na café. ", "日本 \U0001f600", "the </s> of it"]
    assert [ids for ids, _ in encode_all(published, texts)] == reference.encode(texts)


def sentencepiece_like():
    """A small vocabulary in the way of SentencePiece: spaces are part of words, unknown bytes have tokens."""
    small = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    small.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False)
    small.train_from_iterator(TEXT, trainer)
    return small


def from_sentencepiece(reference):
    """The tokenizer.json of a SentencePiece BPE model: merges follow from the scores of its pieces."""
    vocabulary = {reference.id_to_piece(k): k for k in range(reference.get_piece_size())}
    merges = []
    for piece in sorted(vocabulary, key=lambda piece: -reference.get_score(vocabulary[piece])):
        cuts = ((piece[:at], piece[at:]) for at in range(1, len(piece)))
        merges += sorted(cut for cut in cuts if cut[0] in vocabulary and cut[1] in vocabulary)
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    return made
