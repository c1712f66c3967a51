"""Matrices updated in batches are updated as torch.optim.Muon updates them one by one."""

import pytest
import torch
from tolerance import relative_l2

from unmul.train import muon

SHAPES = [(5, 3), (3, 5), (8, 8), (5, 3), (1, 7), (5, 3)]


def matrices(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in SHAPES]


def with_gradients(parameters, seed, without=()):
    for k, (parameter, gradient) in enumerate(zip(parameters, matrices(seed), strict=True)):
        parameter.grad = None if k in without else gradient.detach()


@pytest.mark.parametrize("together", [1, 2, 16])
def test_updates_are_those_of_torchs_own(together, monkeypatch):
    monkeypatch.setattr(muon, "TOGETHER", together)
    ours, theirs = matrices(), matrices()
    fast = muon.Muon(ours, 0.02, 0.1)
    plain = torch.optim.Muon(theirs, 0.02, 0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(1, 4):
        before = [parameter.detach().clone() for parameter in theirs]
        without = {4} if step == 2 else ()
        for parameters, optimizer in ((ours, fast), (theirs, plain)):
            with_gradients(parameters, step, without)
            optimizer.step()
        for k, (own, other, was) in enumerate(zip(ours, theirs, before, strict=True)):
            assert k in without or not torch.equal(other, was)
            assert (
                relative_l2((own - was).detach(), (other - was).detach()) < 0.02 or k in without
            )  # both iterate in bf16
            assert torch.equal(own, was) or k not in without
            with torch.no_grad():
                own.copy_(other)
    assert relative_l2(fast.state[ours[0]]["momentum_buffer"], plain.state[theirs[0]]["momentum_buffer"]) < 1e-6


def test_its_state_goes_on_in_torchs_own_and_back():
    ours, theirs = matrices(), matrices()
    fast = muon.Muon(ours, 0.02, 0.1)
    with_gradients(ours, 1)
    fast.step()
    plain = torch.optim.Muon(theirs, 0.02, 0.1, adjust_lr_fn="match_rms_adamw")
    plain.load_state_dict(fast.state_dict())
    again = muon.Muon(ours, 0.01)
    again.load_state_dict(plain.state_dict())
    assert again.param_groups[0]["lr"] == 0.02
    for own, other in zip(ours, theirs, strict=True):
        assert torch.equal(again.state[own]["momentum_buffer"], plain.state[other]["momentum_buffer"])
