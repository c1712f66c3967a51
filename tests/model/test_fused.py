"""The whole model with every operation fused, against the whole model with every operation as its formula."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from models import TINY
from tolerance import CODE_FLIPS, relative_l2

from unmul.model import MatMulFreeLM, block, glu, initialise, mlgru, model
from unmul.ops.gate_project import naive as naive_gate
from unmul.ops.gated_scan import naive as naive_scan
from unmul.ops.head_loss import naive as naive_head
from unmul.ops.norm_project import naive as naive_norm
from unmul.ops.swiglu_project import naive as naive_swiglu
from unmul.ops.ternarise import held
from unmul.train.family import use_int8_backward

USERS = {
    "norm_project": (block, model), "gate_project": (mlgru,), "gated_scan": (mlgru,), "swiglu_project": (glu,),
    "head_loss": (model,),
}  # fmt: skip
NAIVE = (naive_norm, naive_gate, naive_scan, naive_swiglu, naive_head)


def take(monkeypatch: pytest.MonkeyPatch, modules) -> None:
    """Give the model these implementations of its operations."""
    for module in modules:
        name = module.__name__.split(".")[-2]
        for user in USERS[name]:
            monkeypatch.setattr(user, name, getattr(module, name))


def fused():
    from unmul.ops.gate_project import triton as gate
    from unmul.ops.gated_scan import triton as scan
    from unmul.ops.head_loss import triton as head
    from unmul.ops.norm_project import triton as norm
    from unmul.ops.swiglu_project import triton as swiglu

    return norm, gate, scan, swiglu, head


@pytest.fixture(params=[TINY, replace(TINY, use_shared_norm=True, use_state_norm=True)], ids=["published", "options"])
def network(request: pytest.FixtureRequest, device: str) -> MatMulFreeLM:
    torch.manual_seed(0)
    network = MatMulFreeLM(request.param)
    initialise(network)
    return network.to(device)


@pytest.fixture(params=["float", "int8"])
def either(network: MatMulFreeLM, request: pytest.FixtureRequest) -> MatMulFreeLM:
    """The network with each kind of backward products."""
    if request.param == "int8":
        use_int8_backward(network)
    return network


def batch(device: str) -> torch.Tensor:
    return torch.arange(2 * 14, device=device).view(2, 14) * 37 % TINY.vocab_size


def test_loss_and_every_gradient_agree(either: MatMulFreeLM, device: str, monkeypatch) -> None:
    ids_BT = batch(device)
    found = {}
    for name, modules in (("fused", fused()), ("naive", NAIVE)):
        take(monkeypatch, modules)
        either.zero_grad()
        loss = either.loss(ids_BT[:, :-1], ids_BT[:, 1:])
        loss.backward()
        found[name] = {key: value.grad.cpu() for key, value in either.named_parameters()} | {
            "loss": loss.detach().cpu()
        }
    errors = {name: relative_l2(value, found["naive"][name]) for name, value in found["fused"].items()}
    # Weights of the first layer are reached through eight roundings to 8 bits, each of which may have moved a code.
    assert errors["loss"] < CODE_FLIPS
    assert {name: error for name, error in errors.items() if not error < 20 * CODE_FLIPS} == {}


def test_logits_and_states_agree(network: MatMulFreeLM, device: str, monkeypatch) -> None:
    outputs = []
    for modules in (fused(), NAIVE):
        take(monkeypatch, modules)
        with torch.no_grad():
            outputs.append(network(batch(device)))
    assert relative_l2(outputs[0].logits.cpu(), outputs[1].logits.cpu()) < 20 * CODE_FLIPS
    assert relative_l2(outputs[0].state.cpu(), outputs[1].state.cpu()) < 20 * CODE_FLIPS


def test_computing_layers_again_in_another_thread_takes_the_held_codes(network: MatMulFreeLM, monkeypatch) -> None:
    """As on a GPU, whose backward pass has a thread of its own."""
    take(monkeypatch, fused())
    made = []
    ternarise = held.ternarise
    monkeypatch.setattr(held, "ternarise", lambda weights: made.append(len(weights)) or ternarise(weights))
    network.model.gradient_checkpointing = True
    ids_BT = batch(network.lm_head.weight.device.type)
    with held.hold_codes(), ThreadPoolExecutor(1) as thread:
        thread.submit(network.loss(ids_BT[:, :-1], ids_BT[:, 1:]).backward).result()
    assert made == TINY.num_hidden_layers * [3, 1, 1, 1] + [1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised by Dynamo's own handling of autograd.Function
def test_compiling_does_not_break_the_graph(either: MatMulFreeLM, device: str, monkeypatch) -> None:
    take(monkeypatch, fused())
    ids_BT = batch(device)
    expected = either.loss(ids_BT[:, :-1], ids_BT[:, 1:])
    expected.backward()
    gradients = {name: value.grad.clone() for name, value in either.named_parameters()}
    either.zero_grad()
    compiled = torch.compile(either.loss, backend="aot_eager", fullgraph=True)
    loss = compiled(ids_BT[:, :-1], ids_BT[:, 1:])
    loss.backward()
    assert relative_l2(loss.detach().cpu(), expected.detach().cpu()) < CODE_FLIPS
    assert {
        n for n, p in either.named_parameters() if not relative_l2(p.grad.cpu(), gradients[n].cpu()) < CODE_FLIPS
    } == set()
