"""Kernels stay inside their tensors and out of each other's way: the fence itself, then shapes of real training.

The other tests of the operations stand behind the same fence, with their own shapes.
"""

import importlib
from dataclasses import replace

import pytest
import torch
from compare import random
from models import WIDE
from tolerance import BF16_STEPS

from unmul.model import MatMulFreeLM, initialise
from unmul.ops.bitlinear import Projection
from unmul.ops.gated_scan import START

triton = pytest.importorskip("triton")
import triton.language as tl  # noqa: E402 - only where there is Triton

pytestmark = [
    pytest.mark.usefixtures("fenced_memory"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="the fence stands in Triton's interpreter"),
]


@triton.jit
def _copy_kernel(p_from, p_to, shift, stride, BLOCK: tl.constexpr):
    o = tl.arange(0, BLOCK)
    row = tl.load(p_from + tl.program_id(0) * BLOCK + o + shift)
    tl.store(p_to + tl.program_id(0) * stride + o, row)


def copy(source: torch.Tensor, target: torch.Tensor, shift: int = 0, stride: int = 4) -> None:
    _copy_kernel[(3,)](source, target, shift, stride, 4)


def test_a_copy_inside_its_tensors_passes() -> None:
    source, target = torch.arange(12.0), torch.zeros(12)
    copy(source, target)
    assert torch.equal(target, source)


@pytest.mark.parametrize(("shift", "touched"), [(1, "36 to 52"), (-1, "-4 to 12")])
def test_a_read_beyond_either_end_is_seen(shift: int, touched: str) -> None:
    with pytest.raises(triton.runtime.errors.InterpreterError, match=f"bytes {touched} of a tensor of 48"):
        copy(torch.arange(12.0), torch.zeros(12), shift)


def test_a_write_into_the_neighbour_in_one_storage_is_seen() -> None:
    target, _ = torch.zeros(2, 12).unbind()
    with pytest.raises(triton.runtime.errors.InterpreterError, match="bytes 40 to 56 of a tensor of 48"):
        copy(torch.arange(12.0), target, stride=5)


def test_two_programs_that_write_one_element_are_seen() -> None:
    with pytest.raises(triton.runtime.errors.InterpreterError, match="1 writes what was written by program 0"):
        copy(torch.arange(12.0), torch.zeros(12), stride=3)


def test_a_read_of_what_another_program_wrote_is_seen() -> None:
    storage = torch.zeros(20)
    with pytest.raises(triton.runtime.errors.InterpreterError, match="1 reads what was written by program 0"):
        copy(storage[4:16], storage[8:])


def test_a_write_over_what_another_program_read_is_seen() -> None:
    storage = torch.zeros(20)
    with pytest.raises(triton.runtime.errors.InterpreterError, match="1 writes what was read by program 0"):
        copy(storage[8:], storage[4:16])


def differentiate(outputs: list[torch.Tensor], inputs: list[torch.Tensor]) -> None:
    torch.autograd.grad(sum(y.float().square().sum() for y in outputs), inputs)


@pytest.mark.parametrize("int8_backward", [False, True], ids=["float", "int8"])
def test_a_channel_mixer_of_832_keeps_to_its_tensors(int8_backward: bool, device: str) -> None:
    from unmul.ops.norm_project.triton import norm_project
    from unmul.ops.swiglu_project.triton import swiglu_project

    rows, width, hidden = 17, 48, 832
    x, delta = (random(device, rows, width, dtype=torch.bfloat16, seed=seed) for seed in (1, 2))
    outer, first, second = (random(device, size, seed=3) for size in (width, width, hidden))
    up, down = random(device, 2 * hidden, width), random(device, width, hidden)
    stream, (u,) = norm_project(x, delta, outer, [Projection(first, up, int8_backward=int8_backward)], 1e-6)
    y = swiglu_project(u, Projection(second, down, int8_backward=int8_backward))
    differentiate([stream, y], [x, delta, outer, first, up, second, down])


@pytest.mark.parametrize("time", [49, 64])
def test_a_scan_in_one_piece_keeps_to_its_tensors(time: int, device: str, monkeypatch) -> None:
    from unmul.ops.gated_scan import triton as scan

    monkeypatch.setattr(scan, "segment_length", lambda x, rows, columns: triton.cdiv(time, rows) * rows)
    f, i = (random(device, 2, time, 5, dtype=torch.bfloat16, seed=seed) for seed in (1, 2))
    state, bound = random(device, 2, 5, seed=3), random(device, 5, seed=4)
    mask_BT = torch.ones(2, time, dtype=torch.int64)
    mask_BT[1, ::7] = START
    differentiate(list(scan.gated_scan(f, i, state, bound, mask_BT)), [f, i, state, bound])


@pytest.mark.parametrize("size", [(1, 131, 832, 72), (3, 128, 48, 1664)], ids=["down", "gates"])
def test_tiles_through_descriptors_keep_to_their_tensors(size, device: str) -> None:
    from unmul.ops.product import triton as product

    groups, rows, columns, features = size
    q = torch.ones(groups, rows, columns, dtype=torch.int8)
    c, y = torch.ones(groups, features, columns, dtype=torch.int8), torch.empty(groups, rows, features)
    product._launch_tma(q, torch.ones(groups, rows), c, torch.ones(groups), y)
    assert (y == columns).all()


def test_a_step_of_a_whole_model_keeps_to_its_tensors(monkeypatch) -> None:
    """What one operation hands to the next, in bf16 and with borders of documents, at odd widths."""
    model = MatMulFreeLM(replace(WIDE, num_hidden_layers=2))
    initialise(model, torch.Generator().manual_seed(1))
    ids_BT = torch.arange(19).view(1, 19)
    mask_BT = torch.where(ids_BT % 7 == 0, START, 1)
    with torch.autocast("cpu", torch.bfloat16):
        expected = model.loss(ids_BT, ids_BT, mask_BT)
        use_kernels(monkeypatch)
        loss = model.loss(ids_BT, ids_BT, mask_BT)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=BF16_STEPS)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def use_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the Triton twin of every operation where the model calls it, as dispatch does on a GPU."""
    callers = {
        "norm_project": "unmul.model.block", "gated_scan": "unmul.model.mlgru", "gate_project": "unmul.model.mlgru",
        "swiglu_project": "unmul.model.glu", "head_loss": "unmul.model.model", "ternarise": "unmul.ops.ternarise.held",
    }  # fmt: skip
    for name, caller in callers.items():
        twin = getattr(importlib.import_module(f"unmul.ops.{name}.triton"), name)
        monkeypatch.setattr(f"{caller}.{name}", twin)
