"""The model against what the published implementation computed on a GPU from the same weights.

The compact copy in tests/golden always runs; the full one, with every gradient whole, where ../shared is.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tolerance import BF16_LOGITS, GOLDEN, relative_l2

from unmul.checkpoint.tensorfile import TensorFile
from unmul.model import MatMulFreeLM, Output, load_model
from unmul.model.bitlinear import EPS
from unmul.ops.bitlinear import bitlinear


class Reference:
    """The model, the vectors, and the model's own answer with its gradients."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vectors = TensorFile(folder / "vectors.safetensors")
        self.ids = torch.from_numpy(self.vectors["input_ids"].astype(np.int64))
        self.model: MatMulFreeLM = load_model(folder)
        self.output: Output = self.model(self.ids)
        self.loss = F.cross_entropy(self.output.logits[:, :-1].flatten(0, 1), self.ids[:, 1:].flatten())
        self.loss.backward()

    def error(self, name: str, found: torch.Tensor | np.ndarray) -> float:
        """Relative L2 distance to a reference vector."""
        if isinstance(found, torch.Tensor):
            found = found.detach().float().numpy()
        return relative_l2(found, self.vectors[name].astype(np.float32))


@pytest.fixture(scope="module", params=["compact", "full"])
def reference(request: pytest.FixtureRequest) -> Iterator[Reference]:
    if request.param == "compact":
        folder = request.getfixturevalue("golden")
    else:
        folder = request.getfixturevalue("shared") / "golden" / "tiny"
    return Reference(folder)


def test_logits_and_loss(reference: Reference) -> None:
    assert reference.error("logits", reference.output.logits) < GOLDEN
    assert reference.error("loss", reference.loss[None]) < GOLDEN


def test_hidden_and_final_states(reference: Reference) -> None:
    assert len(reference.output.hidden) == 4
    for layer, hidden in enumerate(reference.output.hidden):
        assert reference.error(f"hidden.{layer}", hidden) < GOLDEN
    for layer, state in enumerate(reference.output.state):
        assert reference.error(f"state.{layer}", state) < GOLDEN


def test_every_gradient(reference: Reference) -> None:
    errors = {}
    for name, parameter in reference.model.named_parameters():
        for suffix, view in views(reference, f"grad.{name}", parameter.grad.numpy()).items():
            errors[name + suffix] = reference.error(f"grad.{name}{suffix}", view)
    assert len(errors) >= len(reference.model.config.tensor_shapes)
    assert {name: error for name, error in errors.items() if not error < GOLDEN} == {}


def views(reference: Reference, name: str, gradient: np.ndarray) -> dict[str, np.ndarray]:
    """The gradient as the vectors hold it: whole, or through random signs (see tests/golden/make.py)."""
    if name in reference.vectors:
        return {"": gradient}
    rng = np.random.default_rng(0)
    left, right = (rng.choice([-1.0, 1.0], size) for size in gradient.shape)
    return {".right": gradient.astype(np.float64) @ right, ".left": left @ gradient.astype(np.float64)}


@torch.no_grad()
def test_greedy_continuation(reference: Reference) -> None:
    expected = reference.vectors["greedy"].tolist()
    ids = reference.ids[:, :8]
    output = reference.model(ids)
    found = [ids]
    while sum(part.shape[1] for part in found) < len(expected[0]):
        found.append(output.logits[:, -1:].argmax(-1))
        output = reference.model(found[-1], output.state)
    assert torch.cat(found, 1).tolist() == expected


def test_one_projection(reference: Reference) -> None:
    layer = reference.model.model.layers[0].mlp.gate_proj
    x = torch.from_numpy(reference.vectors["bitlinear.x"].copy())
    assert reference.error("bitlinear.y", bitlinear(x, layer.norm.weight, layer.weight, EPS)) < GOLDEN


@torch.no_grad()
def test_bf16_is_as_near_the_published_bf16_as_that_is_to_float32(reference: Reference) -> None:
    logits = load_model(reference.folder).bfloat16()(reference.ids).logits
    assert logits.dtype == torch.bfloat16
    assert reference.error("logits_bf16", logits) < BF16_LOGITS
    assert reference.error("logits", logits) < BF16_LOGITS
