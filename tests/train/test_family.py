"""train.family: what is asked of a model beside its loss."""

from models import TINY

from unmul.model import BitLinear, MatMulFreeLM
from unmul.train.family import use_int8_backward


def test_8_bit_gradients_are_taken_everywhere_but_in_the_head_until_turned_off() -> None:
    network = MatMulFreeLM(TINY)
    projections = {name: module for name, module in network.named_modules() if isinstance(module, BitLinear)}
    use_int8_backward(network)
    assert [name for name, module in projections.items() if not module.projection.int8_backward] == ["lm_head"]
    use_int8_backward(network, False)
    assert not any(module.projection.int8_backward for module in projections.values())
