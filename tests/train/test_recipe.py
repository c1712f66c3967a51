"""train.recipe: what a recipe may say, and one clear line for everything else."""

import dataclasses
import json

import pytest

from unmul.data import Dataset, Files
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
        ("data.text=[]", r"data\.text and data\.dataset are both missing"),
        ("train.max_seconds=-1", r"train\.max_seconds -1\.0 cannot be used: expected 0 or a number above"),
        ("train.optimizer=lion", r"train\.optimizer 'lion' cannot be used: expected adamw or muon"),
        ("data.text=5", r"data\.text 5 cannot be used: expected files"),
        ("data.dataset=5", r"data\.dataset 5 cannot be used: expected a name or a table"),
        ("data.validation={split='x'}", r"data\.validation\.name is missing"),
        ("data.dataset={split='x'}", r"data\.dataset\.name is missing"),
        ("data.dataset={name='x', slpit='x'}", r"unknown key in \[data\.dataset\]: 'slpit': did you mean 'split'\?"),
        ("data.dataset={name='x', field='x'}", r"unknown key in \[data\.dataset\]: 'field'"),
        ("data.dataset={name='x', split=1}", r"data\.dataset\.split 1 cannot be used: expected str"),
        ("data.field=5", r"data\.field 5 cannot be used: expected str"),
        ("data.end_token=</s>", r"data\.end_token '</s>' has no data\.tokenizer"),
        ("train.document_mask=1", r"train\.document_mask 1 cannot be used: expected bool"),
        ("train.trackers=wandb", r"train\.trackers 'wandb' cannot be used: expected a list"),
        ("model.type=gpt", r"model\.type 'gpt' cannot be used: expected matmulfree or transformer or"),
        ("train.int8_backward=1", r"train\.int8_backward 1 cannot be used: expected bool"),
        ("model.vocab_size=512", r"unknown key in \[model\]: 'vocab_size'"),
        ("model.hidden_size=big", r"model\.hidden_size 'big' cannot be used: expected int"),
        ("model.num_heads=2", "num_heads 2 is not supported"),
    ],
)
def test_wrong_keys_and_values_are_named_with_a_remedy(recipe_file, override, problem):
    with pytest.raises(ConfigError, match=problem):
        load_recipe(recipe_file, [override]).model_config(300, 0)


def test_8_bit_gradients_of_a_transformer_are_refused(recipe_file):
    with pytest.raises(ConfigError, match=r"train\.int8_backward needs ternary weights, .*: leave it out"):
        load_recipe(recipe_file, ["model.type=transformer", "train.int8_backward=true"])


def test_fresh_embeddings_beside_those_of_another_model_are_refused(recipe_file, latent):
    with pytest.raises(
        ConfigError, match=r"train\.embedding_range 0\.2 is of fresh embeddings, train\.init .*: leave one"
    ):
        load_recipe(recipe_file, [f"train.init={latent}", "train.embedding_range=0.2"])


@pytest.mark.parametrize("kind", ["transformer", "matmulfree-full", "transformer-ternary"])
def test_an_unrounded_beginning_is_for_what_rounds_afterwards(recipe_file, kind):
    with pytest.raises(ConfigError, match=r"train\.unrounded is for model\.type matmulfree, .*: leave it out"):
        load_recipe(recipe_file, [f"model.type={kind}", "train.unrounded=0.5"])
    with pytest.raises(ConfigError, match=r"train\.unrounded 1\.0 .*a number from 0 to below 1"):
        load_recipe(recipe_file, ["train.unrounded=1.0"])


def test_a_dataset_by_name_takes_the_place_of_text(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file, ["data.dataset=someone/tales", "data.field=story"])
    assert recipe.data.text == ()
    assert recipe.data.dataset == Dataset(name="someone/tales", field="story")
    assert recipe.data.source.text == recipe.data.dataset
    back = load_recipe(recipe_file, ["data.dataset=someone/tales", f"data.text={tmp_path / 'text.txt'}"])
    assert back.data.source.text == Files(paths=(tmp_path / "text.txt",))


def test_a_dataset_by_table_and_a_split_of_it_for_validation(recipe_file, tmp_path):
    content = recipe_file.read_text()
    table = 'dataset = {name = "someone/tales", config = "small", revision = "v2"}'
    recipe_file.write_text(
        content.replace('text = "text.txt"', table).replace("validation = 0.05", 'validation = {split = "test"}')
    )
    source = load_recipe(recipe_file).data.source
    assert source.text == Dataset(name="someone/tales", config="small", revision="v2")
    assert source.validation == Dataset(name="someone/tales", config="small", revision="v2", split="test")


def test_a_dataset_in_a_folder_is_found_beside_the_recipe_and_named_without_its_path(recipe_file, tmp_path):
    (tmp_path / "tales").mkdir()
    recipe_file.write_text(recipe_file.read_text().replace('text = "text.txt"', 'dataset = "tales"'))
    recipe = load_recipe(recipe_file)
    assert recipe.data.dataset == Dataset(name=tmp_path / "tales")
    assert recipe.to_dict()["data"]["dataset"]["name"] == "tales"


def test_a_pattern_stands_for_all_files_that_match(recipe_file, tmp_path):
    for name in ("b.parquet", "a.parquet", "c.txt"):
        (tmp_path / name).touch()
    recipe_file.write_text(recipe_file.read_text().replace("text.txt", "*.parquet"))
    assert load_recipe(recipe_file).data.text == (tmp_path / "a.parquet", tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"data\.text .*\*\.jsonl does not exist"):
        _ = load_recipe(recipe_file, [f"data.text={tmp_path}/*.jsonl"]).data.source


def test_text_and_a_dataset_together_are_refused(recipe_file):
    recipe_file.write_text(recipe_file.read_text().replace("[data]", '[data]\ndataset = "someone/tales"'))
    with pytest.raises(ConfigError, match=r"data\.text and data\.dataset are both given"):
        load_recipe(recipe_file)


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
