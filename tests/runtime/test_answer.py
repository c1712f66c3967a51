"""runtime.answer: the loop that `unmul run` and the server share, on logits that want a known token."""

import numpy as np
import pytest
from speakers import SPEAKER

from unmul import SamplingParams
from unmul.errors import EngineError, UsageError
from unmul.runtime.answer import Answer, checked_stops
from unmul.runtime.text import encode, folder_tokenizer

GREEDY = SamplingParams(temperature=0)
END = SPEAKER.eos_token_id


@pytest.fixture
def tokenizer(speaker):
    return folder_tokenizer(speaker, SPEAKER)


def wanting(token: int) -> np.ndarray:
    return np.eye(1, SPEAKER.vocab_size, token, np.float32)[0]


def written(answer: Answer, ids: list[int]) -> str:
    pieces = []
    for token in ids:
        pieces.append(answer.extend(wanting(token))[1])
        if answer.finish:
            break
    return "".join(pieces)


def test_the_limit_ends_an_answer_with_all_its_text(tokenizer):
    ids = encode(tokenizer, "Once upon a time")
    answer = Answer(tokenizer, [], GREEDY, limit=len(ids), stop=["time and again"], end=END)
    assert written(answer, [*ids, 5]) == "Once upon a time"
    assert (answer.finish, answer.ids) == ("length", ids)


def test_the_end_token_ends_an_answer_and_is_no_part_of_it(tokenizer):
    ids = encode(tokenizer, "One by")
    answer = Answer(tokenizer, [], GREEDY, limit=50, stop=["by one"], end=END)
    assert written(answer, [*ids, END]) == "One by"
    assert (answer.finish, answer.ids) == ("stop", ids)


def test_a_stop_string_ends_an_answer_before_it_and_its_tokens_count(tokenizer):
    ids = encode(tokenizer, "One by one")
    answer = Answer(tokenizer, [], GREEDY, limit=50, stop=["one"], end=END)
    assert written(answer, ids) == "One by "
    assert (answer.finish, answer.ids) == ("stop", ids)


def test_a_model_without_an_end_token_ends_at_the_limit(tokenizer):
    answer = Answer(tokenizer, [], GREEDY, limit=3)
    assert written(answer, [END] * 3) == ""
    assert answer.finish == "length"


def test_the_same_seed_chooses_the_same_tokens(tokenizer):
    flat = np.zeros(SPEAKER.vocab_size, np.float32)
    answers = [Answer(tokenizer, [], SamplingParams(temperature=1, seed=3), limit=9) for _ in range(2)]
    for answer in answers:
        while answer.finish is None:
            answer.extend(flat)
    assert answers[0].ids == answers[1].ids


def test_damaged_logits_are_refused_and_no_token_is_taken(tokenizer):
    answer = Answer(tokenizer, [], GREEDY, limit=3)
    with pytest.raises(EngineError, match="NaN"):
        answer.extend(np.full(SPEAKER.vocab_size, np.nan, np.float32))
    assert answer.ids == []


def test_a_limit_below_one_and_an_empty_stop_string_are_refused(tokenizer):
    with pytest.raises(UsageError, match="max_new_tokens 0"):
        Answer(tokenizer, [], GREEDY, limit=0)
    with pytest.raises(UsageError, match="stop string is empty"):
        checked_stops(["a", ""])


def test_one_stop_string_is_not_taken_for_its_letters():
    assert checked_stops("ab") == ("ab",)
