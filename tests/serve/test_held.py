"""serve.held: packed contexts come back to the bit, the least recently used goes, and none lies in another's place."""

import random
import tracemalloc
from collections import OrderedDict

import numpy as np
import pytest

from unmul.serve import held
from unmul.serve.held import HeldContexts
from unmul.serve.scheduler import Context

LIKE = np.zeros((2, 3), np.float32)


def context_of(value, unread=(5,), unfinished=()):
    return Context(np.full_like(LIKE, value), list(unread), list(unfinished))


def parts(context):
    return context and (context.state.tolist(), context.unread, context.unfinished)


@pytest.mark.parametrize(
    ("unread", "unfinished"), [([], []), ([7], []), ([2**31, 0, 1], [4, 5]), ([], [6]), (list(range(5000)), [])]
)
def test_a_context_comes_back_as_it_went_in(unread, unfinished):
    kept = HeldContexts(LIKE, 3)
    context = Context(np.random.default_rng(1).standard_normal((2, 3)).astype(np.float32), unread, unfinished)
    kept.put("a", context)
    assert parts(kept.get("a")) == parts(context)
    assert kept.get("b") is None


def test_contexts_go_in_and_come_out_as_copies():
    kept, context = HeldContexts(LIKE, 3), context_of(1)
    kept.put("a", context)
    context.state[:] = 2
    kept.get("a").state[:] = 3
    assert parts(kept.get("a")) == parts(context_of(1))


@pytest.mark.parametrize("most", [1, 2, 7])
def test_it_behaves_like_a_dictionary_in_order_of_use(monkeypatch, most):
    monkeypatch.setattr(held, "BLOCK_BYTES", 2 * LIKE.nbytes)  # blocks are crossed
    kept, model, drawn = HeldContexts(LIKE, most), OrderedDict(), random.Random(most)
    for value in range(500):
        name = f"s{drawn.randrange(10)}"
        if drawn.random() < 0.5:
            context = context_of(value, unread=[value] * drawn.randrange(3))
            kept.put(name, context)
            model[name] = context
            model.move_to_end(name)
            if len(model) > most:
                model.popitem(last=False)
        else:
            assert parts(kept.get(name)) == parts(model.get(name))
            if name in model:
                model.move_to_end(name)
        assert len(kept) == len(model)
    for name in list(model):
        assert parts(kept.get(name)) == parts(model[name])


def test_a_context_weighs_little_more_than_its_state():
    like, count = np.zeros((2, 512), np.float32), 2048
    kept = HeldContexts(like, count)
    tracemalloc.start()
    try:
        for k in range(count):
            kept.put(f"session-{k:08}", Context(like, [300 + k]))
        each = tracemalloc.get_traced_memory()[0] / count
    finally:
        tracemalloc.stop()
    assert like.nbytes <= each < 1.1 * like.nbytes
