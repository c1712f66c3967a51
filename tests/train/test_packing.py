"""train.packing and the mask: documents that share a window do not meet."""

import numpy as np
import pytest
import torch
from tolerance import FLOAT32_SUMS, relative_l2

from unmul.config import ModelConfig
from unmul.data import Batches
from unmul.data.batches import START, TOKEN
from unmul.model import MatMulFreeLM, initialise
from unmul.train.loop import loss_of
from unmul.train.packing import document_numbers, positions
from unmul.train.recipe import TrainPart

END = 0
TRAIN = TrainPart(steps=1, dtype="fp32")


@pytest.fixture
def model():
    config = ModelConfig(
        vocab_size=37, hidden_size=24, intermediate_size=40, num_hidden_layers=3, bos_token_id=END, eos_token_id=END
    )
    model = MatMulFreeLM(config)
    initialise(model, torch.Generator().manual_seed(3))
    return model


def packed(*lengths, seed=1):
    """END doc END doc ... END as one window, with its mask; each document has so many tokens after its END."""
    random = np.random.default_rng(seed)
    documents = [np.concatenate([[END], random.integers(1, 37, length)]) for length in lengths]
    tokens = np.concatenate([*documents, [END]])
    batch = Batches([tokens.astype(np.uint16)], batch=1, context=len(tokens) - 1, seed=1, end=END)[0]
    return documents, tuple(map(torch.from_numpy, batch))


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("lengths", [(11, 5), (1, 17, 0, 6), (31,)], ids=str)
def test_a_packed_window_has_the_loss_and_gradients_of_its_documents_one_by_one(model, lengths):
    documents, batch = packed(*lengths)
    total = sum(map(len, documents))
    alone = [torch.tensor(np.concatenate([document, [END]]))[None] for document in documents]
    weighted = sum(model.loss(ids[:, :-1], ids[:, 1:]) * (ids.shape[1] - 1) / total for ids in alone)
    together = loss_of(model, batch, TRAIN)
    assert float(together.detach()) == pytest.approx(float(weighted.detach()), rel=FLOAT32_SUMS)
    expected = gradients(model, weighted)
    for name, gradient in gradients(model, together).items():
        assert relative_l2(gradient, expected[name]) < 1e2 * FLOAT32_SUMS, name


def test_without_a_mask_documents_do_meet(model):
    _, (tokens, mask) = packed(11, 5)
    assert loss_of(model, (tokens, None), TRAIN) != loss_of(model, (tokens, mask), TRAIN)


def test_changing_a_document_changes_no_logit_of_the_next(model):
    _, (tokens, mask) = packed(11, 5)
    changed = tokens.clone()
    changed[0, 4] = 1 + tokens[0, 4] % 36
    before, after = (model(ids[:, :-1], mask_BT=mask).logits for ids in (tokens, changed))
    assert not torch.equal(before[:, :12], after[:, :12])
    assert torch.equal(before[:, 12:], after[:, 12:])


def test_a_document_cut_by_the_window_is_read_from_an_empty_state(model):
    tokens = np.array([5, 6, 7, END, 8, 9, 4], np.uint16)
    batch = Batches([tokens], batch=1, context=6, seed=1, end=END)[0]
    assert batch.mask.tolist() == [[TOKEN, TOKEN, TOKEN, START, TOKEN, TOKEN]]
    ids = torch.from_numpy(batch.tokens)[:, :-1]
    whole = model(ids, mask_BT=torch.from_numpy(batch.mask)).logits
    assert relative_l2(whole[:, :3].detach(), model(ids[:, :3]).logits.detach()) < 1e2 * FLOAT32_SUMS


def test_a_mask_becomes_document_numbers_and_positions():
    s, t = int(START), int(TOKEN)
    mask = torch.tensor([[t, t, s, t, s, s, t, t], [s, t, t, t, t, t, t, s]], dtype=torch.int8)
    assert document_numbers(mask).tolist() == [[0, 0, 1, 1, 2, 3, 3, 3], [1, 1, 1, 1, 1, 1, 1, 2]]
    assert positions(mask).tolist() == [[0, 1, 0, 1, 0, 0, 1, 2], [0, 1, 2, 3, 4, 5, 6, 0]]
