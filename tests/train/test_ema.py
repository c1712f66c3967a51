"""train.ema: the average follows its formula, from the first step on and after a restart."""

import json

import pytest
import torch
from tolerance import FLOAT32_SUMS

from unmul.checkpoint import pack
from unmul.config import ModelConfig
from unmul.errors import ConfigError
from unmul.model import MatMulFreeLM, initialise
from unmul.train import load_recipe, run
from unmul.train.ema import Average

SHAPE = ModelConfig(vocab_size=31, hidden_size=6, intermediate_size=10, num_hidden_layers=1)


@pytest.fixture
def model():
    model = MatMulFreeLM(SHAPE)
    initialise(model, torch.Generator().manual_seed(0))
    return model


def move(model, step):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * step)


def test_the_average_begins_as_the_first_weights_and_follows_with_its_decay(model):
    average, expected = Average(model, 0.75), None
    for step in range(1, 5):
        move(model, step)
        average.update(model)
        weights = model.lm_head.weight.detach()
        expected = weights.clone() if expected is None else 0.75 * expected + 0.25 * weights
    found = average.model.lm_head.weight
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.detach(), expected, rtol=FLOAT32_SUMS, atol=FLOAT32_SUMS)
    assert not torch.equal(found, model.lm_head.weight)


def test_a_restored_average_goes_on_to_the_same_bits(model):
    average = Average(model, 0.9)
    move(model, 1)
    average.update(model)
    move(model, 1)
    average.update(model)
    again = Average(model, 0.9)
    again.model.load_state_dict(average.model.state_dict())
    again.resume()
    move(model, 2)
    for one in (average, again):
        one.update(model)
    for name, tensor in average.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name


def test_a_run_measures_the_average_and_saves_it_as_a_model_of_its_own(recipe_file, tmp_path):
    result = run(load_recipe(recipe_file, ["train.steps=20", "train.ema=0.8"]), out=tmp_path / "out", lines=True)
    *_, last = map(json.loads, (tmp_path / "out" / "log.jsonl").read_text().splitlines())
    assert last["validation_bits_per_byte"] == result.bits_per_byte
    assert last["validation_bits_per_byte_ema"] != result.bits_per_byte
    pack(result.checkpoint / "ema", tmp_path / "packed")
    assert (tmp_path / "packed" / "tokenizer.json").exists()


def test_a_stopped_run_resumes_its_average_to_the_same_bits(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file, ["train.steps=15", "train.ema=0.8", "train.keep=9"])
    straight = run(recipe, out=tmp_path / "straight", lines=True).checkpoint
    (tmp_path / "again").mkdir()
    (tmp_path / "straight" / "step-0000010").rename(tmp_path / "again" / "step-0000010")
    resumed = run(recipe, out=tmp_path / "again", resume=True, lines=True).checkpoint
    for name in ("model.safetensors", "ema/model.safetensors"):
        assert (resumed / name).read_bytes() == (straight / name).read_bytes(), name


def test_a_decay_that_never_moves_is_refused(recipe_file):
    with pytest.raises(ConfigError, match=r"train\.ema 1\.0 cannot be used: expected a number from 0 to below 1"):
        load_recipe(recipe_file, ["train.ema=1"])
