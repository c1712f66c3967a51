"""data.batches: batch k is the same in every run, an epoch reads every window once."""

from itertools import pairwise

import numpy as np
import pytest

from unmul.data import Batches
from unmul.data.batches import START, TOKEN
from unmul.errors import ConfigError, DataError


def numbered(*lengths):
    """Shards whose tokens count up through all of them."""
    cuts = np.cumsum([0, *lengths])
    return [np.arange(a, b, dtype=np.uint16) for a, b in pairwise(cuts)]


@pytest.mark.parametrize(("lengths", "context"), [((100,), 7), ((65, 33, 8), 8), ((9,), 8), ((1000, 1, 10), 31)])
def test_rows_are_contiguous_windows_that_stay_within_their_shard(lengths, context):
    shards = numbered(*lengths)
    batches = Batches(shards, batch=1, context=context, seed=1)
    for index in range(3 * batches.per_epoch):
        (row,) = batches[index].tokens
        assert (np.diff(row) == 1).all()
        assert len(row) == context + 1
        assert any(shard[0] <= row[0] and row[-1] <= shard[-1] for shard in shards)


def test_an_epoch_reads_every_window_once_and_the_next_in_another_order():
    batches = Batches(numbered(1000), batch=3, context=10, seed=1)
    epochs = [[batches[e * batches.per_epoch + k].tokens for k in range(batches.per_epoch)] for e in range(2)]
    for epoch in epochs:
        targets = np.concatenate(epoch)[:, 1:].ravel()
        assert len(set(targets.tolist())) == len(targets) == batches.per_epoch * 30
    assert not np.array_equal(epochs[0], epochs[1])


def test_batch_k_depends_on_seed_and_k_only():
    shards = numbered(1000, 500)
    one, two = (Batches(shards, batch=4, context=16, seed=5) for _ in range(2))
    expected = [one[k].tokens for k in range(60)]
    assert all(np.array_equal(two[k].tokens, expected[k]) for k in (59, 0, 31, 7))
    assert not np.array_equal(Batches(shards, batch=4, context=16, seed=6)[0].tokens, expected[0])


def test_the_cuts_between_windows_move_from_epoch_to_epoch():
    batches = Batches(numbered(1000), batch=1, context=50, seed=3)
    phases = {int(batches[epoch * batches.per_epoch].tokens[0, 0]) % 50 for epoch in range(20)}
    assert len(phases) > 5


def test_the_mask_says_where_documents_begin():
    tokens = np.array([0, 5, 6, 0, 0, 7, 8, 9, 0], np.uint16)
    batch = Batches([tokens], batch=1, context=8, seed=1, end=0)[0]
    assert np.array_equal(batch.tokens, tokens[None])
    assert np.array_equal(batch.mask, [[START, TOKEN, TOKEN, START, START, TOKEN, TOKEN, TOKEN]])
    assert batch.mask.dtype == np.int8
    assert Batches([tokens], batch=1, context=8, seed=1)[0].mask is None


def test_the_values_of_a_mask_are_those_that_the_recurrence_reads():
    gated_scan = pytest.importorskip("unmul.ops.gated_scan", reason="needs PyTorch")
    assert START == gated_scan.START
    assert TOKEN not in (gated_scan.START, gated_scan.PADDING)


@pytest.mark.parametrize("ranks", [1, 2, 3, 6])
def test_the_rows_of_all_processes_in_order_are_the_batch_of_one(ranks):
    shards = numbered(1000, 500)
    whole = Batches(shards, batch=6, context=16, seed=5)
    parts = [Batches(shards, batch=6, context=16, seed=5, rank=rank, ranks=ranks) for rank in range(ranks)]
    assert {part.per_epoch for part in parts} == {whole.per_epoch}
    for index in (0, 1, whole.per_epoch, 3 * whole.per_epoch - 1):
        rows = [part[index].tokens for part in parts]
        assert {len(part) for part in rows} == {6 // ranks}
        assert np.array_equal(np.concatenate(rows), whole[index].tokens)


@pytest.mark.parametrize(("batch", "ranks"), [(6, 4), (1, 2), (7, 3)])
def test_a_batch_that_processes_cannot_share_evenly_is_refused(batch, ranks):
    with pytest.raises(ConfigError, match=rf"train\.batch {batch} .* {ranks} processes: make it a multiple of {ranks}"):
        Batches(numbered(1000), batch=batch, context=10, seed=1, rank=0, ranks=ranks)


def test_too_little_text_for_one_batch_is_refused_with_numbers():
    with pytest.raises(DataError, match=r"gives 3 windows of 10 tokens, train\.batch asks for 4"):
        Batches(numbered(40), batch=4, context=10, seed=1)
