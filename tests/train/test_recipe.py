"""train.recipe: what a recipe may say, and one clear line for everything else."""

import dataclasses
import json

import pytest

from unmul.errors import ConfigError, DataError
from unmul.train import load_recipe


def test_a_recipe_is_read_with_paths_relative_to_its_file(recipe_file, monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    recipe = load_recipe(recipe_file)
    assert recipe.name == "tiny"
    assert recipe.data.text == (tmp_path / "text.txt",)
    assert recipe.data.validation == 0.05
    assert recipe.train.tokens_per_step == 64
    config = recipe.model_config(300, 0)
    assert (config.vocab_size, config.bos_token_id, config.eos_token_id) == (300, 0, 0)
    assert (config.hidden_size, config.max_position_embeddings) == (32, 32)


def test_overrides_win_and_their_paths_are_the_callers(recipe_file, monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    overrides = ["train.lr=1", "train.dtype=bf16", "model.num_hidden_layers=3", "data.text=mine.txt"]
    recipe = load_recipe(recipe_file, [*overrides, 'data.validation=["v.txt"]'])
    assert recipe.train.lr == 1.0
    assert recipe.train.dtype == "bf16"
    assert recipe.model["num_hidden_layers"] == 3
    assert recipe.data.text == (tmp_path / "elsewhere" / "mine.txt",)
    assert recipe.data.validation == (tmp_path / "elsewhere" / "v.txt",)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("train.lrr=0.1", r"unknown key in \[train\]: 'lrr': did you mean 'lr'\?"),
        ("optim.lr=0.1", "unknown section 'optim'"),
        ("train.lr", "is not an assignment"),
        ("train.steps=0", r"train\.steps 0 cannot be used: expected a whole number of at least 1"),
        ("train.steps=1.5", r"train\.steps 1\.5 cannot be used: expected int"),
        ("train.steps=true", r"train\.steps True cannot be used"),
        ("train.lr=nan", r"train\.lr nan cannot be used"),
        ("train.lr=fast", r"train\.lr 'fast' cannot be used: expected float"),
        ("train.warmup=2", r"train\.warmup 2\.0 cannot be used: expected a share from 0 to 1"),
        ("train.dtype=fp16", r"train\.dtype 'fp16' cannot be used: expected bf16 or fp32"),
        ("train.device=gpu", r"train\.device 'gpu' cannot be used: expected auto or cpu or cuda"),
        ("train.parallel=tensor", r"train\.parallel 'tensor' cannot be used: expected auto or ddp or fsdp"),
        ("train.async_checkpoint=1", r"train\.async_checkpoint 1 cannot be used: expected bool"),
        ("data.validation=1.5", r"data\.validation 1\.5 cannot be used: expected a share"),
        ("data.text=[]", r"data\.text \(\) cannot be used: expected at least one file"),
        ("model.vocab_size=512", r"unknown key in \[model\]: 'vocab_size'"),
        ("model.hidden_size=big", r"model\.hidden_size 'big' cannot be used: expected int"),
        ("model.expand_ratio=2", "expand_ratio 2 is not supported"),
    ],
)
def test_wrong_keys_and_values_are_named_with_a_remedy(recipe_file, override, problem):
    with pytest.raises(ConfigError, match=problem):
        load_recipe(recipe_file, [override]).model_config(300, 0)


def test_a_missing_key_is_named(tmp_path):
    (tmp_path / "r.toml").write_text("[data]\ntext = 'a.txt'\n")
    with pytest.raises(ConfigError, match=r"train\.steps is missing"):
        load_recipe(tmp_path / "r.toml")


@pytest.mark.parametrize("content", [b"this is not TOML", b"[train\n", b"\xff"])
def test_what_is_not_toml_is_refused(tmp_path, content):
    (tmp_path / "r.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"r\.toml cannot be read as TOML"):
        load_recipe(tmp_path / "r.toml")


def test_missing_recipes_and_texts_say_what_to_give(tmp_path, recipe_file):
    with pytest.raises(ConfigError, match=r"none\.toml does not exist"):
        load_recipe(tmp_path / "none.toml")
    with pytest.raises(DataError, match=r"data\.text .*none\.txt does not exist: .*--set data\.text=FILE"):
        _ = load_recipe(recipe_file, ["data.text=none.txt"]).data.source


def test_a_recipe_becomes_json_and_stays_frozen(recipe_file):
    recipe = load_recipe(recipe_file)
    plain = json.loads(json.dumps(recipe.to_dict()))
    assert plain["train"]["lr"] == 0.01
    assert plain["data"]["text"] == ["text.txt"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.train.lr = 1.0
