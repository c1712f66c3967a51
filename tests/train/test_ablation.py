"""train.ablation: what is between our model and the Transformer differs from each in one thing only."""

from dataclasses import replace

import pytest
import torch
from tolerance import FLOAT32_SUMS, relative_l2
from torch import nn

from unmul import ternary
from unmul.config import ModelConfig
from unmul.errors import UnmulError
from unmul.evaluate import open_any
from unmul.model import BitLinear, MatMulFreeLM
from unmul.ops.bitlinear import bitlinear, naive
from unmul.train import load_recipe, run
from unmul.train.ablation import MATMULFREE_FULL, TRANSFORMER_TERNARY
from unmul.train.baseline import TRANSFORMER
from unmul.train.flops import size

SHAPE = ModelConfig(
    vocab_size=61, hidden_size=64, intermediate_size=40, num_hidden_layers=2, max_position_embeddings=12
)
IDS = torch.randint(61, (2, 13), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1, 1, 2] + [1] * 9, [1] * 12], dtype=torch.int8)
KINDS = {"matmulfree-full": MATMULFREE_FULL, "transformer-ternary": TRANSFORMER_TERNARY}


def loss(model):
    with torch.no_grad():
        return float(model.loss(IDS[:, :-1], IDS[:, 1:], MASK))


@pytest.mark.parametrize("state_norm", [False, True])
def test_full_precision_is_our_model_without_its_two_roundings(state_norm, monkeypatch):
    shape = replace(SHAPE, use_state_norm=state_norm)
    full, ours = MATMULFREE_FULL.build(shape, 3), MatMulFreeLM(shape)
    ours.load_state_dict(full.state_dict())
    rounded = loss(ours)
    monkeypatch.setattr(ternary, "quantise", lambda x: (x, torch.ones(())))
    monkeypatch.setattr(naive, "latent_operand", lambda weights: (torch.stack(weights), torch.ones(1)))
    assert loss(full) == pytest.approx(loss(ours), rel=FLOAT32_SUMS)
    assert loss(full) != pytest.approx(rounded, rel=1e-4)


def test_the_ternary_transformer_is_the_llama_of_the_same_seed_with_bitlinears():
    llama, ternary_llama = TRANSFORMER.build(SHAPE, 3), TRANSFORMER_TERNARY.build(SHAPE, 3)
    found = dict(ternary_llama.named_modules())
    linear = {name: module for name, module in llama.named_modules() if isinstance(module, nn.Linear)}
    assert len(linear) == 7 * 2 + 1
    for name, module in linear.items():
        assert isinstance(found[name], BitLinear)
        assert torch.equal(found[name].weight, module.weight), name
    assert float(found["llama.model.embed_tokens"].weight.detach().std()) == pytest.approx(1, rel=0.1)
    x = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(1))
    q_proj = found["llama.model.layers.0.self_attn.q_proj"]
    with torch.no_grad():
        assert torch.equal(q_proj(x), bitlinear(x, torch.ones(64), q_proj.weight, 1e-6))
    assert loss(ternary_llama) != loss(llama)


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_are_those_of_the_models(kind):
    model = KINDS[kind].build(SHAPE, 0)
    assert size(kind, SHAPE, 12).parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_learns_resumes_to_the_same_bits_and_leaves_no_folder_that_passes_for_another_model(
    kind, recipe_file, tmp_path
):
    recipe = load_recipe(recipe_file, [f"model.type={kind}", "model.hidden_size=64", "train.steps=12"])
    whole = run(recipe, out=tmp_path / "whole", lines=True)
    run(replace(recipe, train=replace(recipe.train, max_seconds=1e-9)), out=tmp_path / "parts", lines=True)
    parts = run(recipe, out=tmp_path / "parts", resume=True, lines=True)
    assert parts.final_loss == whole.final_loss < 5.7  # ln 300
    assert parts.bits_per_byte == whole.bits_per_byte
    with pytest.raises(UnmulError, match=r"hgrn_full|llama_bit"):
        open_any(whole.checkpoint)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # the compiler does it
def test_a_compiled_ternary_layer_is_one_graph():
    model = TRANSFORMER_TERNARY.build(SHAPE, 0)
    layer, x = model.llama.model.layers[0], torch.randn(1, 12, 64)
    rotary = model.llama.model.rotary_emb(x, position_ids=torch.arange(12)[None])
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = layer(x, attention_mask=None, position_embeddings=rotary)
        assert relative_l2(compiled(x, attention_mask=None, position_embeddings=rotary), expected) < 1e-2
