"""train.init: a run that starts from a checkpoint starts from its function, to the last bit of a scale."""

import json
import shutil

import numpy as np
import pytest
from models import latent_folder
from speakers import SPEAKER, speaking_latent

from unmul import ternary
from unmul.checkpoint import PackedCheckpoint, pack, unpack
from unmul.errors import ConfigError
from unmul.model import MatMulFreeLM
from unmul.train import load_recipe, run
from unmul.train.start import start_from


def bare(recipe_file):
    """The recipe without [model] and vocabulary, which the checkpoint decides."""
    recipe = recipe_file.read_text()
    recipe_file.write_text(recipe[recipe.index("[data]") :].replace("vocab_size = 300\n", ""))
    return recipe_file


@pytest.fixture(params=["latent", "packed", "unpacked"])
def folder(request, tmp_path):
    speaking_latent(tmp_path / "latent")
    if request.param != "latent":
        pack(tmp_path / "latent", tmp_path / "packed")
    if request.param == "unpacked":
        unpack(tmp_path / "packed", tmp_path / "unpacked")
    return tmp_path / request.param


def test_codes_and_scales_are_those_of_the_checkpoint(folder):
    if folder.name == "packed":
        shutil.copytree(folder, folder.with_name("again"))
    else:
        pack(folder, folder.with_name("again"))
    model, packed = MatMulFreeLM(SPEAKER), PackedCheckpoint.open(folder.with_name("again"))
    start_from(model, folder)
    for name in SPEAKER.ternary_names:
        weight = model.get_parameter(name).detach().numpy()
        scale = ternary.scale(weight)
        assert (ternary.codes(weight, scale) == packed.codes(name)).all()
        assert abs(scale - packed.scale(name)) <= np.spacing(packed.scale(name))


def test_a_run_starts_there_with_its_shape_and_tokenizer_and_learns(folder, recipe_file, tmp_path):
    overrides = [f"train.init={folder}", "train.steps=20", "train.lr=0.003"]
    recipe = load_recipe(bare(recipe_file), overrides)
    assert recipe.data.tokenizer == folder / "tokenizer.json"
    assert recipe.model["hidden_size"] == SPEAKER.hidden_size
    result = run(recipe, out=tmp_path / "run")
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in log if "loss" in line]
    assert losses[-1] < losses[0]
    assert (result.checkpoint / "tokenizer.json").read_text() == (folder / "tokenizer.json").read_text()
    card = json.loads((result.checkpoint / "training.json").read_text())
    assert card["recipe"]["train"]["init"] == folder.name
    assert card["before"] == {"steps": 0, "tokens": 0, "flops": 0}, "nobody has said how that model was trained"


def test_a_card_counts_all_training_before_it(recipe_file, tmp_path):
    """Three runs, each from the weights of the one before."""
    folder = speaking_latent(tmp_path / "latent")
    (folder / "training.json").write_text(json.dumps({"steps": 5, "tokens": 50, "flops": 500}))
    bare(recipe_file)
    for k in range(2):
        folder = run(
            load_recipe(recipe_file, [f"train.init={folder}", "train.steps=2"]), out=tmp_path / f"{k}"
        ).checkpoint
        card = json.loads((folder / "training.json").read_text())
        tokens, flops = k * card["tokens"], k * card["flops"]
        assert card["before"] == {"steps": 5 + 2 * k, "tokens": 50 + tokens, "flops": 500 + flops}


def test_a_run_that_started_there_is_resumed_where_it_stopped(recipe_file, tmp_path):
    folder = speaking_latent(tmp_path / "latent")
    bare(recipe_file)
    straight = run(load_recipe(recipe_file, [f"train.init={folder}", "train.steps=20"]), out=tmp_path / "straight")
    saved = tmp_path / "resumed"
    shutil.copytree(tmp_path / "straight", saved)
    shutil.rmtree(saved / "step-0000020")
    again = run(load_recipe(recipe_file, [f"train.init={folder}", "train.steps=20"]), out=saved, resume=True)
    assert again.final_loss == straight.final_loss


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["model.hidden_size=65"], r"model\.hidden_size 65 is not that of train\.init, 64"),
        (["model.type=transformer"], r"train\.init .* cannot be used: expected model\.type matmulfree"),
        (["train.init=nowhere"], "nowhere is not a folder"),
        (["train.init=5"], r"train\.init 5 cannot be used"),
    ],
)
def test_what_cannot_be_started_from_is_refused(recipe_file, tmp_path, overrides, problem):
    folder = speaking_latent(tmp_path / "latent")
    with pytest.raises(Exception, match=problem):
        load_recipe(bare(recipe_file), [f"train.init={folder}", *overrides])


def test_a_folder_without_a_tokenizer_or_with_another_vocabulary_is_refused(recipe_file, tmp_path):
    silent, folder = latent_folder(tmp_path / "silent", SPEAKER), speaking_latent(tmp_path / "latent")
    with pytest.raises(ConfigError, match=r"train\.init .* has no tokenizer\.json"):
        load_recipe(bare(recipe_file), [f"train.init={silent}"])
    raw = json.loads((folder / "config.json").read_text())
    larger = latent_folder(tmp_path / "larger", type(SPEAKER).from_dict({**raw, "vocab_size": 301}))
    shutil.copyfile(folder / "tokenizer.json", larger / "tokenizer.json")
    with pytest.raises(ConfigError, match=r"the tokenizer has 300 tokens, train.init .* has 301"):
        run(load_recipe(recipe_file, [f"train.init={larger}"]), out=tmp_path / "run")
