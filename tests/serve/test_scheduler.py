"""serve.scheduler: batched texts equal texts alone, prompts share the engine, and nothing leaks from one to another."""

import numpy as np
import pytest
from servers import Arithmetic, job_for
from speakers import SPEAKER

import unmul
from unmul import SamplingParams
from unmul.engine import open_engine
from unmul.errors import EngineError
from unmul.runtime.text import encode, folder_tokenizer
from unmul.serve.cache import StateCache
from unmul.serve.scheduler import READ_AT_ONCE, Scheduler

LONG = [(7 * k) % 250 for k in range(5 * READ_AT_ONCE + 3)]


def scheduler(engine=None, *, slots=64, budget=10**6) -> Scheduler:
    return Scheduler(engine or Arithmetic(), StateCache(budget), slots=slots)


def finished(sched: Scheduler, *jobs) -> None:
    sched.waiting.extend(jobs)
    while sched.busy:
        sched.turn()


def alone(ids, new):
    """What the engine writes after ids, token by token."""
    engine, state, tokens = Arithmetic(), Arithmetic().new_state(), []
    logits = engine.forward(ids, state)
    while len(tokens) < new:
        tokens.append(int(logits.argmax()))
        logits = engine.forward(tokens[-1:], state)
    return tokens


def test_texts_of_many_lengths_written_together_equal_each_alone():
    jobs = [job_for(LONG[k : k + 1 + 37 * k], new=3 + 5 * k) for k in range(12)]
    finished(scheduler(slots=5), *[job for job, _ in jobs])
    for job, log in jobs:
        assert log.tokens == alone(job.ids, len(log.tokens))
        assert log.finish == "length"


def test_real_texts_written_together_equal_the_models_own(speaker):
    prompts = ["Once upon", "The sun rose and the birds sang. " * 20, "o", "déjà vu"]
    model, tokenizer = unmul.load(speaker), folder_tokenizer(speaker, SPEAKER)
    draws = [SamplingParams(temperature=0), SamplingParams(seed=3), SamplingParams(seed=4), SamplingParams(seed=3)]
    ids = [encode(tokenizer, prompt, begin=0) for prompt in prompts]
    options = {"new": 30, "tokenizer": tokenizer, "end": SPEAKER.eos_token_id}
    jobs = [job_for(read, sampling=draw, **options) for read, draw in zip(ids, draws, strict=True)]
    finished(scheduler(open_engine(speaker)), *[job for job, _ in jobs])
    for (_, log), prompt, draw in zip(jobs, prompts, draws, strict=True):
        text = "".join(model.generate(prompt, max_new_tokens=30, sampling=draw))
        assert log.tokens == model.last.new_ids
        assert "".join(event.text for event in log[1:]) == text


def test_a_long_prompt_is_read_in_pieces_between_the_steps_of_others():
    engine = Arithmetic()
    sched = scheduler(engine)
    talk, talked = job_for([1, 2], new=50)
    long, _ = job_for(LONG, new=1)
    sched.waiting.append(talk)
    sched.turn()
    sched.waiting.append(long)
    for _ in range(5):
        before = len(talked.tokens)
        sched.turn()
        assert len(talked.tokens) == before + 1
    assert [size for size in engine.passes if size > 1] == [READ_AT_ONCE] * 5


def test_a_short_prompt_does_not_wait_for_a_long_one():
    sched = scheduler()
    (long, read), (short, answered) = job_for(LONG, new=1), job_for([5, 6, 7], new=1)
    sched.waiting.extend([long, short])
    sched.turn()
    sched.turn()
    assert answered.finish
    assert not read


def test_short_prompts_are_read_several_in_a_round_and_not_all():
    engine = Arithmetic()
    sched = scheduler(engine)
    sched.waiting.extend(job_for([k, 1, 2], new=3)[0] for k in range(20))
    sched.turn()
    assert engine.passes == [2] * 8 + [-8]


def test_jobs_beyond_the_slots_wait_in_their_order():
    sched = scheduler(slots=2)
    jobs = [job_for([k, 3], new=4) for k in range(5)]
    sched.waiting.extend(job for job, _ in jobs)
    sched.turn()
    assert (sched.active, len(sched.waiting)) == (2, 3)
    order = []
    while sched.busy:
        sched.turn()
        order += [k for k, (_, log) in enumerate(jobs) if log.finish and k not in order]
    assert order == [0, 1, 2, 3, 4]


def test_a_job_with_more_answers_than_slots_runs_alone():
    job, log = job_for([1], n=3)
    finished(scheduler(slots=2), job)
    assert len(log.tokens) == 15


def test_several_answers_share_one_reading_of_the_prompt():
    engine = Arithmetic()
    job, log = job_for(LONG[:100], n=4, new=6)
    finished(scheduler(engine), job)
    assert [size for size in engine.passes if size > 0] == [99]
    for choice in range(4):
        assert [event.token for event in log[1:] if event.choice == choice] == alone(LONG[:100], 6)


def test_a_shared_beginning_is_read_once_even_by_prompts_that_come_together():
    engine = Arithmetic()
    jobs = [job_for([*LONG[: 2 * READ_AT_ONCE], k, k + 1], new=2) for k in range(4)]
    finished(scheduler(engine), *[job for job, _ in jobs])
    assert sum(size for size in engine.passes if size > 0) == 2 * READ_AT_ONCE + 4
    assert sum(log.cached for _, log in jobs) == 3 * 2 * READ_AT_ONCE
    for job, log in jobs:
        assert log.tokens == alone(job.ids, 2)


def test_a_conversation_that_comes_back_is_not_read_again():
    engine = Arithmetic()
    sched = scheduler(engine)
    first, log = job_for(LONG[:50], new=10)
    finished(sched, first)
    engine.passes.clear()
    again, second = job_for([*first.ids, *log.tokens, 8, 9], new=5)
    finished(sched, again)
    assert second.cached == 59  # all but the last new token, which no step has read
    assert second.tokens == alone(again.ids, 5)


def test_a_session_shares_its_beginning_and_not_its_ends():
    engine, cache = Arithmetic(), StateCache(10**6)
    sched = Scheduler(engine, cache, slots=2)
    finished(sched, job_for(LONG[: READ_AT_ONCE + 50], shares=False)[0])
    assert len(cache) == 1
    other, log = job_for([*LONG[:READ_AT_ONCE], 1, 2], shares=False)
    finished(sched, other)
    assert (log.cached, log.tokens) == (READ_AT_ONCE, alone(other.ids, 5))


def test_without_a_budget_nothing_is_shared_and_nothing_changes():
    sched = scheduler(budget=0)
    for _ in range(2):
        job, log = job_for(LONG[:200])
        finished(sched, job)
        assert (log.cached, log.tokens) == (0, alone(job.ids, 5))


@pytest.mark.parametrize("cut", [1, 4, 9])
def test_a_kept_context_goes_on_as_if_the_text_had_never_stopped(cut):
    ids, sched = LONG[:40], scheduler()
    first, log = job_for(ids, new=cut)
    finished(sched, first)
    (context,) = log.kept
    second, rest = job_for(context.unread, new=10 - cut, start=context.state)
    before = context.state.copy()
    finished(sched, second)
    assert log.tokens + rest.tokens == alone(ids, 10)
    assert np.array_equal(context.state, before)


def test_a_cancelled_text_leaves_its_place_and_its_context():
    sched = scheduler(slots=1)
    job, log = job_for(LONG[:10], new=1000)
    other, answered = job_for([4], new=1)
    sched.waiting.extend([job, other])
    for _ in range(6):
        sched.turn()
    job.cancelled = True
    sched.turn()
    assert (log.finish, answered.finish) == (None, "length")
    (context,) = log.kept
    on, rest = job_for(context.unread, new=4, start=context.state)
    finished(sched, on)
    assert log.tokens + rest.tokens == alone(LONG[:10], 10)


def test_a_prompt_cancelled_while_it_is_read_leaves_the_rest_unread():
    sched = scheduler()
    job, log = job_for(LONG, new=3)
    sched.waiting.append(job)
    sched.turn()
    job.cancelled = True
    sched.turn()
    assert not sched.busy
    (context,) = log.kept
    assert context.unread == LONG[READ_AT_ONCE:]


def test_a_context_that_is_left_at_once_keeps_what_it_had_of_a_character():
    sched = scheduler()
    job, log = job_for([5], start=Arithmetic().new_state(), tokenizer=Halves(), unfinished=[5])
    sched.waiting.append(job)
    sched._admit()
    job.cancelled = True
    sched.turn()
    assert (log.kept[0].unread, log.kept[0].unfinished) == ([5], [5])


class Halves:
    """A tokenizer of which every token is a part of a character that never ends."""

    def decode(self, ids, skip_special_tokens=True):
        return "\ufffd"


def test_a_stopped_text_ends_after_its_next_token_with_all_that_was_held_back():
    sched = scheduler()
    job, log = job_for([1], new=1000)
    sched.waiting.append(job)
    for _ in range(3):
        sched.turn()
    job.stopped = True
    finished(sched)
    assert (log.finish, log.tokens) == ("length", alone([1], 4))
    assert log.kept[0].unread == log.tokens[-1:]


def test_a_job_cancelled_while_it_waits_never_runs():
    sched = scheduler(slots=1)
    (first, _), (waits, log) = job_for([1], new=3), job_for([2], new=3)
    sched.waiting.extend([first, waits])
    sched.turn()
    waits.cancelled = True
    finished(sched)
    assert (list(log), log.kept) == ([], [None])


def test_prompt_scores_are_those_of_the_whole_prompt_at_once():
    ids = LONG[:300]
    sched = scheduler()
    finished(sched, job_for(ids)[0])  # a cached beginning must not swallow scores
    job, log = job_for(ids, echo=True, top=2)
    finished(sched, job)
    logits = Arithmetic().forward(ids, Arithmetic().new_state(), every=True)
    scores = log[0].scores
    assert [found.token for found in scores] == ids[1:]
    assert [found.top[0][0] for found in scores] == logits.argmax(1)[:-1].tolist()


def test_a_prompt_may_be_scored_without_an_answer():
    job, log = job_for([1, 2, 3], n=0, echo=True, top=0)
    finished(scheduler(), job)
    assert [len(event.scores) for event in log] == [2]
    assert log.kept[0].unread == [3]


def test_new_tokens_are_scored_where_asked():
    job, log = job_for([1, 2, 3], top=3)
    finished(scheduler(), job)
    assert all(event.score.token == event.token == event.score.top[0][0] for event in log[1:])


def test_a_prompt_that_breaks_the_engine_ends_alone():
    engine = Arithmetic()
    engine.breaks_at = 99
    (bad, failed), (good, log) = job_for([1, 99, 2]), job_for([1, 2, 3])
    finished(scheduler(engine), bad, good)
    assert str(failed.error) == "broken"
    assert failed.kept == [None]
    assert log.tokens == alone([1, 2, 3], 5)


def test_a_step_that_fails_ends_its_texts_and_the_next_ones_run():
    engine = Arithmetic()
    engine.breaks_at = 99
    jobs = [job_for([1, 99]), job_for([1, 2], n=2)]
    sched = scheduler(engine)
    finished(sched, *[job for job, _ in jobs])
    assert [str(log.error) for _, log in jobs] == ["broken", "broken"]
    job, log = job_for([5])
    finished(sched, job)
    assert log.tokens == alone([5], 5)


def test_a_text_with_damaged_logits_ends_alone(monkeypatch):
    engine = Arithmetic()
    step = engine.step

    def damaged(ids, states):
        logits = step(ids, states)
        logits[0, 0] = np.nan
        return logits

    (bad, failed), (good, log) = job_for([1, 2], n=2), job_for([1, 2, 3])
    sched = scheduler(engine)
    sched.waiting.extend([bad, good])
    monkeypatch.setattr(engine, "step", damaged)
    sched.turn()
    monkeypatch.undo()
    finished(sched)
    assert isinstance(failed.error, EngineError)
    assert failed.kept == [None]
    assert log.tokens == alone([1, 2, 3], 5)


def test_at_the_end_texts_return_what_they_have_and_the_rest_is_told_why():
    sched = scheduler(slots=2)
    (talk, talked), (waits, refused), (reads, unread) = job_for([1], new=99), job_for([2]), job_for(LONG)
    sched.waiting.extend([talk, reads, waits])
    sched.turn()
    sched.turn()
    sched.end(EngineError("closing", "later"))
    assert not sched.busy
    assert (talked.finish, talked.tokens) == ("length", alone([1], 2))
    assert talked.kept[0].unread == talked.tokens[-1:]
    assert all("closing" in str(log.error) for log in (refused, unread))


def test_counters_tell_prompt_cached_and_new_tokens():
    sched = scheduler()
    for _ in range(2):
        finished(sched, job_for(LONG[:20], new=4)[0])
    assert (sched.prompt_tokens, sched.cached_tokens, sched.new_tokens) == (40, 19, 8)
