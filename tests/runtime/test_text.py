"""runtime.text: tokens become text as they come, whole characters only."""

import pytest
from speakers import SPEAKER
from tokenizers import Tokenizer, models

from unmul.errors import TokenizerError, UsageError
from unmul.runtime.text import TextStream, encode, folder_tokenizer

MIXED = "déjà vu 中文字 🦔🦔 end"


@pytest.fixture
def tokenizer(speaker):
    return folder_tokenizer(speaker, SPEAKER)


def pieces_of(stream: TextStream, ids: list[int]) -> list[str]:
    return [stream.push(token) for token in ids] + [stream.finish()]


def test_pieces_join_to_the_text(tokenizer):
    ids = encode(tokenizer, MIXED)
    assert "".join(pieces_of(TextStream(tokenizer, []), ids)) == MIXED


def test_no_piece_holds_half_a_character(tokenizer):
    pieces = pieces_of(TextStream(tokenizer, []), encode(tokenizer, MIXED))
    assert all("\ufffd" not in piece for piece in pieces)
    assert "🦔" in pieces
    assert "中" in pieces


def test_an_unfinished_character_at_the_end_is_not_shown(tokenizer):
    ids = encode(tokenizer, "a🦔")
    assert "".join(pieces_of(TextStream(tokenizer, []), ids[:-1])) == "a"


@pytest.mark.parametrize("cut", range(1, 12))
def test_another_stream_completes_the_character_that_one_left(tokenizer, cut):
    ids = encode(tokenizer, "a🦔中")
    first = TextStream(tokenizer, [])
    shown = "".join(pieces_of(first, ids[:cut]))
    second = TextStream(tokenizer, ids[:cut], unfinished=first.unfinished)
    assert shown + "".join(pieces_of(second, ids[cut:])) == "a🦔中"


def test_bytes_that_no_character_begins_with_do_not_hold_the_text_back(tokenizer):
    stray = encode(tokenizer, "🦔")[-1]
    text = "".join(pieces_of(TextStream(tokenizer, []), [stray] * 20 + encode(tokenizer, "after")))
    assert text == "\ufffd" * 20 + "after"


def test_the_prompts_last_byte_is_not_repeated(tokenizer):
    stream = TextStream(tokenizer, encode(tokenizer, "🦔"))
    assert "".join(pieces_of(stream, encode(tokenizer, "中b"))) == "中b"


@pytest.mark.parametrize("stop", ["vu", "à v", "字 🦔", "end", "d"])
def test_text_ends_before_a_stop_string_wherever_tokens_cut_it(tokenizer, stop):
    stream = TextStream(tokenizer, [], [stop])
    shown = ""
    for token in encode(tokenizer, MIXED):
        shown += stream.push(token)
        if stream.stopped:
            break
    assert stream.stopped
    assert shown == MIXED[: MIXED.index(stop)]


def test_the_beginning_of_a_stop_string_that_does_not_come_is_shown_at_the_end(tokenizer):
    stream = TextStream(tokenizer, [], ["endless"])
    assert "".join(pieces_of(stream, encode(tokenizer, MIXED))) == MIXED


def test_special_tokens_are_no_text(tokenizer):
    assert "".join(pieces_of(TextStream(tokenizer, [0]), [0, *encode(tokenizer, "one")])) == "one"


def test_text_that_no_utf8_can_hold_is_refused(tokenizer):
    with pytest.raises(UsageError, match="not valid UTF-8 at character 2"):
        encode(tokenizer, "ab\udcff")


def test_a_damaged_tokenizer_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is not a tokenizer"):
        folder_tokenizer(tmp_path, SPEAKER)


def test_a_tokenizer_of_a_larger_vocabulary_is_refused(speaker, tokenizer: Tokenizer, tmp_path):
    tokenizer.add_tokens([f"more{k}" for k in range(5)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(TokenizerError, match="has 305 tokens, the model 300"):
        folder_tokenizer(tmp_path, SPEAKER)


def test_a_tokenizer_with_an_id_beyond_the_model_is_refused_however_few_it_has(tmp_path):
    Tokenizer(models.BPE(vocab={"a": 0, "b": 300}, merges=[])).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(TokenizerError, match="has 301 tokens, the model 300"):
        folder_tokenizer(tmp_path, SPEAKER)


def test_a_tokenizer_that_would_cut_or_pad_takes_the_whole_prompt(speaker, tokenizer, tmp_path):
    cutting = Tokenizer.from_str(tokenizer.to_str())
    cutting.enable_truncation(3)
    cutting.enable_padding(length=64)
    cutting.save(str(tmp_path / "tokenizer.json"))
    assert encode(folder_tokenizer(tmp_path, SPEAKER), "Once upon a time") == encode(tokenizer, "Once upon a time")


def test_a_text_that_the_tokenizer_has_no_token_for_is_refused():
    lacking = Tokenizer(models.WordLevel({"a": 0}, unk_token="?"))
    with pytest.raises(TokenizerError, match=r"cannot read the text .*: use the tokenizer\.json that belongs"):
        encode(lacking, "b")
