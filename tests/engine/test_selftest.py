"""Damaged weights and broken kernels are refused at load, never spoken with."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unmul.checkpoint import PackedCheckpoint
from unmul.checkpoint.tensorfile import BF16
from unmul.engine import _native
from unmul.engine.cpu import CpuEngine
from unmul.engine.load import load_model
from unmul.engine.selftest import check_kernels, check_model
from unmul.errors import CheckpointError, EngineError

GATE = "model.layers.1.mlp.gate_proj.weight"


def damaged(folder: Path, name: str, change: Any) -> PackedCheckpoint:
    """An opened checkpoint in which one tensor was changed after the checksum was verified."""
    packed = PackedCheckpoint.open(folder)
    tensor = np.array(packed.tensors[name])
    return PackedCheckpoint(packed.folder, packed.config, {**packed.tensors, name: change(tensor)}, packed.embeddings)


def with_value(index: Any, value: Any) -> Any:
    def change(tensor: np.ndarray) -> np.ndarray:
        tensor[index] = value
        return tensor

    return change


def test_sound_weights_pass(packed: Path) -> None:
    assert CpuEngine(PackedCheckpoint.open(packed)).backend


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        (GATE, with_value((3, 2), 255), f"{GATE} cannot be loaded"),
        (GATE + "_scale", with_value((), np.nan), "gate_proj is nan"),
        (GATE + "_scale", with_value((), 0), "gate_proj is 0"),
        ("model.layers.0.attn.i_proj.norm.weight", with_value(4, BF16.type(np.nan)), "holds NaN"),
        ("model.norm.weight", with_value(0, BF16.type(np.inf)), "holds NaN or infinity"),
        ("model.embeddings.weight_scale", with_value(7, np.nan), "holds NaN"),
    ],
    ids=["byte", "scale-nan", "scale-zero", "gain-nan", "norm-inf", "embedding-nan"],
)
def test_numbers_that_no_packing_writes_are_refused(packed: Path, name: str, change: Any, problem: str) -> None:
    with pytest.raises(CheckpointError, match=problem):
        CpuEngine(damaged(packed, name, change))


def test_weights_in_memory_that_differ_from_the_file_are_refused(packed: Path) -> None:
    opened = PackedCheckpoint.open(packed)
    engine = CpuEngine(opened)
    other = damaged(packed, GATE, lambda tensor: tensor[::-1].copy())
    model = load_model(other, engine.isa, 1)
    with pytest.raises(EngineError, match=f"{GATE} in memory differs"):
        check_model(engine, model, opened)


def test_logits_that_overflow_are_refused(packed: Path) -> None:
    huge = damaged(packed, "model.norm.weight", lambda tensor: np.full_like(tensor, 3e38))
    with pytest.raises(EngineError, match=r"logits of .* are not finite"):
        CpuEngine(huge)


class WrongMatrix:
    """Stands for a kernel that is off by one in one number."""

    def __init__(self, packed: np.ndarray, columns: int) -> None:
        self._matrix = _REAL(packed, columns)

    def product(self, isa: str, q: np.ndarray, out: np.ndarray) -> None:
        self._matrix.product(isa, q, out)
        out[-1, 7] += isa != "scalar"


_REAL = _native.Matrix


@pytest.mark.skipif(len(_native.instruction_sets()) == 1, reason="this CPU runs scalar only")
def test_a_kernel_that_is_wrong_by_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fastest = _native.instruction_sets()[-1]
    check_kernels(fastest)
    monkeypatch.setattr(_native, "Matrix", WrongMatrix)
    with pytest.raises(EngineError, match=f"the {fastest} product differs"):
        check_kernels(fastest)
