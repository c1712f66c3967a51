"""train.family: what is asked of a model beside its loss."""

import pytest
from models import TINY

from unmul.model import BitLinear, MatMulFreeLM
from unmul.train.family import MATMULFREE, draw_embeddings, use_int8_backward


def test_embeddings_are_drawn_anew_and_nothing_else_is() -> None:
    before, after = MATMULFREE.build(TINY, 3), MATMULFREE.build(TINY, 3)
    draw_embeddings(after, 0.5, 3)
    found = dict(after.named_parameters())
    assert [name for name, old in before.named_parameters() if not old.equal(found[name])] == [
        "model.embeddings.weight"
    ]
    assert float(found["model.embeddings.weight"].detach().std()) == pytest.approx(0.5, rel=0.1)
    again = MATMULFREE.build(TINY, 3)
    draw_embeddings(again, 0.5, 3)
    assert again.model.embeddings.weight.equal(after.model.embeddings.weight)


def test_8_bit_gradients_are_taken_everywhere_but_in_the_head_until_turned_off() -> None:
    network = MatMulFreeLM(TINY)
    projections = {name: module for name, module in network.named_modules() if isinstance(module, BitLinear)}
    use_int8_backward(network)
    assert [name for name, module in projections.items() if not module.projection.int8_backward] == ["lm_head"]
    use_int8_backward(network, False)
    assert not any(module.projection.int8_backward for module in projections.values())
