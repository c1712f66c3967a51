"""The model as a recurrence: where a sequence is cut, padded or batched makes no difference."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from models import TINY, WIDE, latent_folder
from tolerance import FLOAT32_SUMS, relative_l2

from unmul.config import ModelConfig
from unmul.model import BitLinear, MatMulFreeLM, initialise, load_model
from unmul.ops.scan import naive

pytestmark = pytest.mark.usefixtures("poisoned_memory")

IDS = torch.randint(TINY.vocab_size, (3, 11), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=["latent", "packed", "wide", "wide_packed"])
def model(request: pytest.FixtureRequest) -> MatMulFreeLM:
    return load_model(request.getfixturevalue(request.param))


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Equal but for the order of summation in another matrix shape; a moved 8-bit code would be 1e-3 away."""
    return relative_l2(found, expected) < 10 * FLOAT32_SUMS


@pytest.mark.parametrize("cuts", [[1] * 11, [4, 7], [1, 9, 1], [10, 1]], ids="cut{}".format)
def test_a_sequence_in_parts_equals_the_whole(model: MatMulFreeLM, cuts: list[int]) -> None:
    whole, state, logits = model(IDS), None, []
    for part in IDS.split(cuts, 1):
        output = model(part, state)
        state = output.state
        logits.append(output.logits)
    assert same(torch.cat(logits, 1), whole.logits)
    assert same(output.state, whole.state)


def test_left_padding_adds_nothing(model: MatMulFreeLM) -> None:
    padded = torch.cat([torch.randint(TINY.vocab_size, (3, 4)), IDS], 1)
    mask = torch.ones_like(padded)
    mask[:, :4] = 0
    whole, output = model(IDS), model(padded, mask_BT=mask)
    assert same(output.logits[:, 4:], whole.logits)
    assert same(output.state, whole.state)


def test_right_padding_leaves_the_state_alone(model: MatMulFreeLM) -> None:
    padded = torch.cat([IDS, torch.randint(TINY.vocab_size, (3, 4))], 1)
    mask = torch.ones_like(padded)
    mask[:, 11:] = 0
    whole, output = model(IDS), model(padded, mask_BT=mask)
    assert same(output.logits[:, :11], whole.logits)
    assert same(output.state, whole.state)
    assert not same(model(padded).state, whole.state)


def test_mask_of_ones_is_no_mask(model: MatMulFreeLM) -> None:
    assert torch.equal(model(IDS, mask_BT=torch.ones_like(IDS)).logits, model(IDS).logits)


@pytest.mark.parametrize("side", ["left", "right"])
def test_batch_of_mixed_lengths_equals_one_by_one(model: MatMulFreeLM, side: str) -> None:
    lengths = [3, 11, 7]
    mask = torch.zeros_like(IDS)
    for row, length in enumerate(lengths):
        mask[row, -length:] = 1
    rows = mask.bool() if side == "left" else mask.flip(1).bool()
    output = model(IDS, mask_BT=rows)
    for row in range(3):
        alone = model(IDS[row][rows[row]][None])
        assert same(output.logits[row][rows[row]], alone.logits[0])
        assert same(output.state[:, row], alone.state[:, 0])


def test_a_later_token_changes_nothing_before_it(model: MatMulFreeLM) -> None:
    changed = IDS.clone()
    changed[:, 6] = (changed[:, 6] + 1) % TINY.vocab_size
    a, b = model(IDS).logits, model(changed).logits
    assert torch.equal(a[:, :6], b[:, :6])
    assert (a[:, 6:] != b[:, 6:]).any(-1).all()


def test_new_state_is_the_default(model: MatMulFreeLM) -> None:
    state = model.model.new_state(3)
    assert (state.shape, state.dtype) == ((3, 3, model.config.mixer_size), torch.float32)
    assert torch.equal(model(IDS, state).logits, model(IDS).logits)
    assert (state == 0).all()


def test_state_stays_float32_in_a_bf16_model(latent: Path) -> None:
    model = load_model(latent).bfloat16()
    output = model(IDS)
    assert (output.logits.dtype, output.state.dtype) == (torch.bfloat16, torch.float32)


def test_forget_gate_is_bounded_from_below(latent: Path) -> None:
    model = load_model(latent)
    shares = model.model.lower_bounds.softmax(0)
    bounds = model.model.forget_bounds()
    assert torch.equal(bounds[0], torch.zeros(42))
    assert relative_l2(bounds[1], shares[1]) < FLOAT32_SUMS
    assert relative_l2(bounds[2], shares[1] + shares[2]) < FLOAT32_SUMS


def test_without_lower_bound_the_gate_is_free(tmp_path: Path) -> None:
    """Zero weights give f = 1/2 everywhere, so the states are known."""
    config = replace(TINY, use_lower_bound=False)
    free, bounded = (load_model(latent_folder(tmp_path / name, c)) for name, c in (("f", config), ("b", TINY)))
    assert free.model.forget_bounds() == [None] * 3
    assert torch.equal(free(IDS).state[0], bounded(IDS).state[0])
    assert not torch.equal(free(IDS).state[1], bounded(IDS).state[1])


@pytest.mark.parametrize("source", ["latent", "wide"])
def test_token_mixer_is_the_paper_with_the_published_order(source: str, request: pytest.FixtureRequest) -> None:
    """One layer written out: f after the bound, gate normalised, state through SiLU."""
    model = load_model(request.getfixturevalue(source))
    layer, width, inner = model.model.layers[1].attn, model.config.hidden_size, model.config.mixer_size
    generator = torch.Generator().manual_seed(1)
    x, h0 = torch.randn(2, 5, width, generator=generator), torch.randn(2, inner, generator=generator)
    bound = torch.rand(inner, generator=generator)
    i, f, g = (projection(x) for projection in (layer.i_proj, layer.f_proj, layer.g_proj))
    out, state = layer(i, f, g, h0, bound, None)
    f = bound + (1 - bound) * torch.sigmoid(f)
    h, last = naive.scan(f, i * torch.sigmoid(i) * (1 - f), h0)
    g = g / (g.square().mean(-1, keepdim=True) + 1e-6).sqrt() * layer.g_norm.weight
    assert relative_l2(state, last) < FLOAT32_SUMS
    assert same(out, layer.o_proj(g * h * torch.sigmoid(h)))


def test_fresh_weights_have_the_published_statistics() -> None:
    config = ModelConfig(vocab_size=700, hidden_size=256, num_hidden_layers=2)
    model = MatMulFreeLM(config)
    initialise(model, torch.Generator().manual_seed(0))
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            assert (parameter == 1).all()
        elif name.endswith("lower_bounds"):
            assert (parameter == 0).all()
        elif ".attn." in name:
            limit = 2**-2.5 * math.sqrt(6 / 512)
            assert parameter.abs().max() <= limit
            assert float(parameter.std()) == pytest.approx(limit / math.sqrt(3), rel=0.01)
        else:
            std = 0.02 / (2 if "down_proj" in name else 1)
            assert float(parameter.std()) == pytest.approx(std, rel=0.01)
            assert abs(float(parameter.mean())) < 0.02 * std
    bounds = model.model.forget_bounds()
    assert relative_l2(bounds[1], torch.full((256,), 0.5)) < FLOAT32_SUMS


def test_fresh_weights_are_repeatable_by_seed() -> None:
    def draw(seed: int) -> dict[str, torch.Tensor]:
        model = MatMulFreeLM(TINY)
        initialise(model, torch.Generator().manual_seed(seed))
        return model.state_dict()

    first, again, other = draw(1), draw(1), draw(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


@pytest.mark.parametrize("config", [TINY, WIDE], ids=["tiny", "wide"])
def test_every_projection_is_a_bitlinear_without_bias(config: ModelConfig) -> None:
    model = MatMulFreeLM(config)
    projections = {name + ".weight" for name, module in model.named_modules() if isinstance(module, BitLinear)}
    assert projections == set(config.ternary_names)
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == config.tensor_shapes
