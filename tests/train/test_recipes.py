"""The recipes of the repository: each one loads, and builds what its first lines promise."""

from pathlib import Path

import pytest
import torch

from unmul.config import PRESETS
from unmul.errors import DataError
from unmul.model import MatMulFreeLM
from unmul.train import load_recipe
from unmul.train.baseline import llama_config

RECIPES = Path(__file__).parents[2] / "recipes"
PARAMETERS = {
    "370m": 374_108_160, "1.3b": 1_364_779_008, "2.7b": 2_702_357_504, "small-gpu": 24_679_424,
    "open-english": 60_596_352, "tales-tiny": 3_681_792,
}  # fmt: skip
OWN_TEXT = {"open-english", "tales-tiny"}
PUBLISHED = {"370m": (15e9, 4e-3), "1.3b": (100e9, 2.5e-3), "2.7b": (100e9, 1.5e-3)}  # tokens, highest rate


def recipe(name, *overrides):
    return load_recipe(RECIPES / f"{name}.toml", overrides)


def test_every_recipe_is_listed_here():
    assert {path.stem for path in RECIPES.glob("*.toml")} == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_recipe_has_the_promised_size_and_a_transformer_beside_it(name):
    found = recipe(name)
    config = found.model_config(found.data.vocab_size, 0)
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in MatMulFreeLM(config).parameters()) == PARAMETERS[name]
    beside = recipe(name, "model.type=transformer", "model.expand_ratio=1")
    config = beside.model_config(beside.data.vocab_size, 0)
    assert llama_config(config).intermediate_size == config.ffn_size


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_has_the_papers_shape_tokens_and_rate(name):
    found, (tokens, lr) = recipe(name), PUBLISHED[name]
    assert found.model_config(32000, 0).tensor_shapes == PRESETS[name].tensor_shapes
    assert found.train.steps * found.train.tokens_per_step == pytest.approx(tokens, rel=1e-4)
    assert (found.train.lr, found.train.second_stage, found.train.context) == (lr, 0.5, 2048)


@pytest.mark.parametrize("name", sorted(set(PARAMETERS) - OWN_TEXT))
def test_a_recipe_without_text_asks_for_one_and_takes_it(name, tmp_path):
    with pytest.raises(DataError, match=r"text\.txt does not exist: .*--set data\.text=FILE"):
        _ = recipe(name).data.source
    (tmp_path / "mine.txt").write_text("Once.")
    assert recipe(name, f"data.text={tmp_path / 'mine.txt'}").data.source.text.paths == (tmp_path / "mine.txt",)
