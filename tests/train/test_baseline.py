"""train.baseline: a Llama of the same shape through the same loop, data, measure and checkpoints."""

import json
import math

import pytest
import torch
from tolerance import FLOAT32_SUMS, relative_l2
from torch._dynamo.utils import counters
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from unmul.cli.app import main
from unmul.config import PRESETS, ModelConfig
from unmul.errors import CheckpointError, ConfigError
from unmul.evaluate import Document, measure, open_any
from unmul.train import load_recipe, run
from unmul.train.baseline import TRANSFORMER, LlamaLM, compile_blocks, llama_config

SHAPE = ModelConfig(
    vocab_size=61, hidden_size=64, intermediate_size=40, num_hidden_layers=2, max_position_embeddings=12
)
OVERRIDES = ["model.type=transformer", "model.hidden_size=64", "train.steps=40", "train.lr=2e-3"]


@pytest.fixture
def model():
    return TRANSFORMER.build(SHAPE, 3)


def loss(model, *inputs):
    with torch.no_grad():
        return float(model.loss(*inputs))


def logits(model, ids):
    with torch.inference_mode():
        return model.llama(torch.tensor([ids])).logits[0]


def test_a_seed_decides_the_weights_and_leaves_the_global_generator_alone(model):
    before = torch.random.get_rng_state()
    again, other = TRANSFORMER.build(SHAPE, 3), TRANSFORMER.build(SHAPE, 4)
    assert torch.equal(torch.random.get_rng_state(), before)
    for (name, one), two, three in zip(model.named_parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two), name
        assert name.endswith("norm.weight") or not torch.equal(one, three), name


@pytest.mark.parametrize(("width", "heads"), [(64, 1), (192, 3), (960, 15), (1024, 8), (1088, 17), (2560, 20)])
def test_heads_have_128_columns_or_64_and_fill_the_width(width, heads):
    assert llama_config(ModelConfig(hidden_size=width)).num_attention_heads == heads


def test_a_width_that_heads_cannot_fill_is_refused():
    with pytest.raises(
        ConfigError, match=r"model\.hidden_size 100 cannot be split .*choose a multiple of 64, such as 128"
    ):
        LlamaLM(ModelConfig(hidden_size=100))


def test_loss_is_the_mean_surprise_of_the_targets(model):
    ids = torch.tensor([[5, 9, 2, 60, 0], [1, 1, 1, 2, 3]])
    expected = -torch.stack([logits(model, row[:-1]).log_softmax(-1)[range(4), row[1:]] for row in ids.tolist()]).mean()
    assert loss(model, ids[:, :-1], ids[:, 1:]) == pytest.approx(float(expected), rel=FLOAT32_SUMS)


def test_documents_of_a_window_do_not_see_each_other(model):
    documents = [[7, 8, 9], [3], [4, 5, 6, 2, 1]]
    ids = torch.tensor([[*documents[0], *documents[1], *documents[2]]])
    targets = torch.randint(0, 61, ids.shape, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 2, 2, 1, 1, 1, 1]], dtype=torch.int8)  # the first was cut by the window's begin
    alone = torch.cat([logits(model, document) for document in documents]).log_softmax(-1)
    expected = -alone[range(9), targets[0]].mean()
    assert loss(model, ids, targets, mask) == pytest.approx(float(expected), rel=FLOAT32_SUMS)
    assert loss(model, ids, targets) != pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("length", [1, 11, 12, 13, 29])
def test_texts_beyond_the_window_are_read_with_at_least_half_of_it_before_every_token(model, length):
    ids = torch.randint(0, 61, (length,), generator=torch.Generator().manual_seed(1)).tolist()
    found = torch.tensor(TRANSFORMER.engine(model).forward(ids, [], every=True))
    for t in range(length):
        first = max(min(t // 6 * 6 + 6, length) - 12, 0)  # pieces of six tokens, each at the end of a window of twelve
        assert relative_l2(found[t], logits(model, ids[first : t + 1])[-1]) < 10 * FLOAT32_SUMS


def test_a_text_read_in_parts_continues(model):
    engine, ids = TRANSFORMER.engine(model), list(range(12))
    state = engine.new_state()
    parts = [engine.forward(ids[:5], state), engine.forward(ids[5:], state)]
    assert relative_l2(parts[0], logits(model, ids[:5])[-1]) < 10 * FLOAT32_SUMS
    assert relative_l2(parts[1], logits(model, ids)[-1]) < 10 * FLOAT32_SUMS


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # the compiler's own imports
def test_compiled_layers_share_one_graph_and_compute_the_same(model):
    ids = torch.tensor([[5, 9, 2, 60, 0, 3, 3]])
    before = loss(model, ids[:, :-1], ids[:, 1:])
    names = list(model.state_dict())
    torch._dynamo.reset()
    counters.clear()
    compile_blocks(model)
    assert loss(model, ids[:, :-1], ids[:, 1:]) == pytest.approx(before, rel=10 * FLOAT32_SUMS)
    assert list(model.state_dict()) == names
    assert counters["stats"]["unique_graphs"] == 2  # one for both layers, one for the loss


@pytest.mark.parametrize("name", PRESETS)
def test_projections_are_as_many_as_in_the_published_models(name):
    with torch.device("meta"):
        llama = LlamaForCausalLM(llama_config(PRESETS[name]))
    projections = [p for key, p in llama.named_parameters() if "norm" not in key and "embed" not in key]
    assert sum(math.prod(p.shape) for p in projections) == PRESETS[name].ternary_weights


@pytest.fixture(scope="module")
def straight(straight_recipe):
    recipe, out = load_recipe(straight_recipe, [*OVERRIDES, "train.ema=0.9"]), straight_recipe.parent / "llama"
    return recipe, out, run(recipe, out=out, lines=True)


def test_it_learns_and_says_both_sizes(straight_recipe, tmp_path, capsys):
    result = run(load_recipe(straight_recipe, OVERRIDES), out=tmp_path / "out", lines=True)
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert result.final_loss < 0.8 * lines[0]["loss"]
    said = capsys.readouterr().err
    llama = LlamaForCausalLM.from_pretrained(result.checkpoint)
    assert (
        f"transformer  {llama.num_parameters():,} parameters, {llama.num_parameters() - 2 * 300 * 64:,} without" in said
    )
    assert "matmulfree   " in said


def test_a_checkpoint_is_transformers_own_and_measures_like_the_model_in_training(straight):
    recipe, _, result = straight
    llama = AutoModelForCausalLM.from_pretrained(result.checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(result.checkpoint)
    assert isinstance(llama, LlamaForCausalLM)
    assert tokenizer.decode(tokenizer("the little cat").input_ids) == "the little cat"
    held_out = [text for side, text in recipe.data.source.documents() if side == "validation"]
    documents = [Document(tokenizer(text).input_ids, len(text)) for text in held_out]
    *_, total = measure(open_any(result.checkpoint), documents, 0)
    assert total.bits_per_byte == pytest.approx(result.bits_per_byte, rel=FLOAT32_SUMS)
    *_, averaged = measure(open_any(result.checkpoint / "ema"), documents, 0)
    assert averaged.bits_per_byte != total.bits_per_byte


def test_a_stopped_run_resumes_to_the_same_bits(straight, tmp_path, monkeypatch):
    recipe, out, _ = straight
    original = LlamaLM.loss

    def stops_at_seventeen(self, *inputs):
        stops_at_seventeen.calls += 1
        if stops_at_seventeen.calls == 17:
            raise KeyboardInterrupt
        return original(self, *inputs)

    stops_at_seventeen.calls = 0
    monkeypatch.setattr(LlamaLM, "loss", stops_at_seventeen)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, out=tmp_path / "out", lines=True)
    run(recipe, out=tmp_path / "out", resume=True, lines=True)
    assert stops_at_seventeen.calls == 17 + 25  # steps 16 to 40: the last checkpoint was after 15
    for name in ("model.safetensors", "ema/model.safetensors"):
        assert (tmp_path / "out/step-0000040" / name).read_bytes() == (out / "step-0000040" / name).read_bytes(), name


def test_unmul_eval_measures_it_and_pack_refuses_it(straight, tmp_path, capsys):
    (tmp_path / "text.txt").write_text("the little cat saw the red moon " * 9)
    assert main(["eval", str(straight[2].checkpoint), "--text", str(tmp_path / "text.txt"), "--json"]) == 0
    assert 0 < json.loads(capsys.readouterr().out)["bits_per_byte"] < 8
    assert main(["pack", str(straight[2].checkpoint), str(tmp_path / "packed")]) == 2
    assert "model_type 'llama' is not a MatMul-free model" in capsys.readouterr().err


def test_a_damaged_llama_is_one_clear_error(straight, tmp_path):
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((straight[2].checkpoint / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        open_any(tmp_path)
