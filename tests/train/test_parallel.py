"""train.parallel, train.world and train.state: two processes are one run, whatever they share, and end together."""

import json
import os
import shutil
import signal
from dataclasses import replace
from functools import partial

import pytest
import torch
from processes import Failure, on_two
from tolerance import SPLIT_BATCHES
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from unmul.data import open_shards
from unmul.errors import CheckpointError, ConfigError
from unmul.ops.bitlinear import Projection
from unmul.ops.ternarise import ternarise
from unmul.ops.ternarise.held import hold_codes, ternary_operand
from unmul.train import families, load_recipe, loop, run
from unmul.train.meter import Energy
from unmul.train.parallel import replicate
from unmul.train.recipe import TrainPart
from unmul.train.run import Trainer
from unmul.train.silence import Silence
from unmul.train.state import Saver
from unmul.train.world import open_world

pytestmark = pytest.mark.slow  # two processes are started, once for all tests

# No width is even: the last shard of every weight is shorter.
SHAPE = ["model.hidden_size=31", "model.intermediate_size=45", "model.num_hidden_layers=3"]
TRAIN = ["train.steps=6", "train.accumulate=2", "train.lr=1e-3", "train.checkpoint_every=3", "train.keep=9"]
LLAMA = ["model.type=transformer", "model.hidden_size=64", "train.steps=3"]
KINDS = ("ddp", "fsdp")
WEIGHT = torch.randn((7, 5), generator=torch.Generator().manual_seed(1))


def recipe_of(recipe_file, *overrides):
    shards = f"data.shards={recipe_file.parent / 'shards'}"
    return load_recipe(recipe_file, [*SHAPE, *TRAIN, shards, *overrides])


def log(out):
    return list(map(json.loads, (out / "log.jsonl").read_text().splitlines()))


def losses(out):
    return [line["loss"] for line in log(out) if "loss" in line]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def start(recipe, out):
    run(recipe, out=out, lines=True)


def go_on(recipe, out, checkpoint):
    """Continue from a copy of a checkpoint, whatever came after it."""
    if os.environ.get("RANK", "0") == "0":
        shutil.copytree(checkpoint, out / checkpoint.name)
    run(recipe, out=out, resume=True, lines=True)


def save_again(recipe, out, checkpoint):
    """Restore a checkpoint, measure it, and save it again."""
    with open_world(recipe.train) as world:
        out.mkdir(exist_ok=True)
        shards, _ = open_shards(recipe.data.shards, recipe.data.source)
        saver = Saver(out, world, families.MATMULFREE, shards, keep=1, background=False)
        with saver, Energy(world) as energy:
            trainer = Trainer(recipe, shards, world, saver, energy)
            trainer.restore(checkpoint)
            trainer.validate(Silence())
            saver.save(trainer.model, trainer.optimizers, None, trainer.card())


def diverge_on_one(recipe, out):
    """The second micro-batch of step 5 goes wrong, on rank 1 only."""
    true_loss, calls = loop.loss_of, []

    def loss_of(model, batch, train):
        calls.append(1)
        bad = os.environ["RANK"] == "1" and len(calls) == 2 * 5
        return true_loss(model, batch, train) * (float("nan") if bad else 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "loss_of", loss_of)
        start(recipe, out)


def fail_on_one(recipe, out):
    """A mistake of ours, on rank 1 only, while rank 0 waits for its gradients."""
    with pytest.MonkeyPatch.context() as patch:
        if os.environ["RANK"] == "1":
            patch.setattr(loop, "_on", None)
        start(recipe, out)


def refuse_to_write(recipe, out):
    """Rank 0 cannot export the second checkpoint."""
    true_save, calls = families.MATMULFREE.save, []

    def save(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise CheckpointError("the disk is full", "buy one")
        true_save(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(families, "MATMULFREE", replace(families.MATMULFREE, save=save))
        start(recipe, out)


def preempt_one(recipe, out):
    """Rank 1 alone is told to stop, within step 2."""
    true_loss, calls = loop.loss_of, []

    def loss_of(model, batch, train):
        calls.append(1)
        if os.environ["RANK"] == "1" and len(calls) == 2 * 2:
            signal.raise_signal(signal.SIGTERM)
        return true_loss(model, batch, train)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "loss_of", loss_of)
        result = run(recipe, out=out, lines=True)
    return result.steps, result.signal.name, result.leads


class Ternary(torch.nn.Module):
    """A projection's codes and scale, as an operation asks for them."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(WEIGHT.clone())

    def forward(self, gain):
        return ternary_operand([Projection(gain, self.weight)])


class Ternaries(torch.nn.Module):
    """The least that can be put in shards."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([Ternary()])

    def loss(self, gain):
        return self.layers[0](gain)


def ternarise_in_shards():
    train = TrainPart(steps=1, parallel="fsdp")
    with open_world(train) as world:
        replica, gain = replicate(Ternaries(), world, train), torch.zeros(1)
        with hold_codes():
            first, second = replica.loss(gain), replica.loss(gain)
        own = replica.model.layers[0].weight.to_local()
        with torch.no_grad():
            own.neg_()
        changed = replica.loss(gain)
        numbers = [part[0].tolist() for part in (*first, *changed)]  # not tensors: they would outlive their process
        return own.numel(), first[0] is second[0], numbers


def calls(recipe_file, folder):
    """Everything that two processes have to do for the tests below, by name: they are started once."""
    one = folder / "one" / "step-0000003"
    found = {"ternarise": ternarise_in_shards}
    for kind in KINDS:
        recipe = recipe_of(recipe_file, f"train.parallel={kind}", "train.async_checkpoint=true")
        found[kind] = partial(start, recipe, folder / kind)
        less = recipe_of(recipe_file, f"train.parallel={kind}", "train.checkpoint_activations=true")
        found[f"one-{kind}"] = partial(go_on, less, folder / f"one-{kind}", one)
        found[f"{kind}-again"] = partial(go_on, recipe, folder / f"{kind}-again", folder / kind / one.name)
        found[f"{kind}-copy"] = partial(save_again, recipe, folder / f"{kind}-copy", one)
        llama = recipe_of(recipe_file, *LLAMA, f"train.parallel={kind}", "train.checkpoint_activations=true")
        found[f"{kind}-llama"] = partial(start, llama, folder / f"{kind}-llama")
        averaged = recipe_of(recipe_file, f"train.parallel={kind}", "train.ema=0.9")
        found[f"{kind}-ema"] = partial(start, averaged, folder / f"{kind}-ema")
        found[f"{kind}-nan"] = partial(diverge_on_one, recipe, folder / f"{kind}-nan")
    found["preempted"] = partial(preempt_one, recipe, folder / "preempted")
    found["disk"] = partial(refuse_to_write, recipe, folder / "disk")
    found["mistake"] = partial(fail_on_one, recipe, folder / "mistake")
    return found


@pytest.fixture(scope="module")
def runs(straight_recipe):
    """A folder with the run of one process and those of two, each under its name."""
    start(recipe_of(straight_recipe), straight_recipe.parent / "one")
    return straight_recipe.parent


@pytest.fixture(scope="module")
def ends(straight_recipe, runs):
    """How each call ended on both processes."""
    made = calls(straight_recipe, runs)
    return dict(zip(made, on_two(list(made.values())), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_have_the_losses_of_one(runs, ends, kind):
    assert ends[kind] == (None, None)
    assert losses(runs / kind) == pytest.approx(losses(runs / "one"), rel=SPLIT_BATCHES)
    norms = [[line["norm"] for line in log(runs / name) if "norm" in line] for name in ("one", kind)]
    assert norms[1] == pytest.approx(norms[0], rel=1e2 * SPLIT_BATCHES)
    measured = [log(runs / name)[-1]["validation_bits_per_byte"] for name in ("one", kind)]
    assert measured[1] == pytest.approx(measured[0], rel=SPLIT_BATCHES)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_with_another_number_of_processes_and_less_memory(runs, ends, straight_recipe, kind):
    assert ends[f"one-{kind}"] == (None, None)
    assert losses(runs / f"one-{kind}") == pytest.approx(losses(runs / "one")[3:], rel=SPLIT_BATCHES)
    go_on(recipe_of(straight_recipe), runs / f"{kind}-one", runs / kind / "step-0000003")
    assert losses(runs / f"{kind}-one") == pytest.approx(losses(runs / "one")[3:], rel=SPLIT_BATCHES)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_with_as_many_processes_to_the_bit(runs, ends, kind):
    assert ends[f"{kind}-again"] == (None, None)
    assert losses(runs / f"{kind}-again") == losses(runs / kind)[3:]
    last = [runs / name / "step-0000006" / "model.safetensors" for name in (kind, f"{kind}-again")]
    assert last[0].read_bytes() == last[1].read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_one_process_writes_the_log_and_nothing_is_left_behind(runs, ends, kind):
    assert ends[kind] == (None, None)
    assert [line["step"] for line in log(runs / kind) if "loss" in line] == list(range(1, 7))
    assert names(runs / kind) == ["log.jsonl", "step-0000003", "step-0000006"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_transformer_has_the_losses_of_one_process_too(runs, ends, straight_recipe, tmp_path, kind):
    assert ends[f"{kind}-llama"] == (None, None)
    start(recipe_of(straight_recipe, *LLAMA), tmp_path / "one")
    assert losses(runs / f"{kind}-llama") == pytest.approx(losses(tmp_path / "one"), rel=SPLIT_BATCHES)


def test_weights_are_averaged_in_copies_and_not_in_shards(runs, ends, straight_recipe, tmp_path):
    assert ends["ddp-ema"] == (None, None)
    start(recipe_of(straight_recipe, "train.ema=0.9"), tmp_path / "one")
    measured = [log(folder)[-1]["validation_bits_per_byte_ema"] for folder in (tmp_path / "one", runs / "ddp-ema")]
    assert measured[1] == pytest.approx(measured[0], rel=SPLIT_BATCHES)
    refusal = "ConfigError train.ema cannot average shards (fsdp): set train.parallel=ddp, or train.ema=0"
    assert refusal in ends["fsdp-ema"]


def state_in(checkpoint, scratch):
    """Weights and moments of a checkpoint, whole, in one flat dict."""
    dcp_to_torch_save(checkpoint / "resume", scratch)
    whole = torch.load(scratch)
    moments = whole["optimizer"]["state"]
    return whole["model"] | {f"{name}/{kind}": moments[name][kind] for name in moments for kind in moments[name]}


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_write_the_checkpoint_that_one_writes(runs, ends, straight_recipe, tmp_path, kind):
    assert ends[f"{kind}-copy"] == (None, None)
    source = runs / "one" / "step-0000003"
    save_again(recipe_of(straight_recipe, "train.async_checkpoint=true", f"train.parallel={kind}"), tmp_path, source)
    one, two = tmp_path / source.name, runs / f"{kind}-copy" / source.name
    assert names(two) == names(one)
    for name in set(names(one)) - {"training.json", "resume"}:
        assert (two / name).read_bytes() == (one / name).read_bytes(), name
    cards = [json.loads((folder / "training.json").read_text()) for folder in (one, two)]
    bits = [card.pop("validation_bits_per_byte") for card in cards]
    assert cards[0] == cards[1]
    assert bits[1] == pytest.approx(bits[0], rel=1e-12)  # the same float64 numbers, added in another order
    expected, found = (state_in(folder, tmp_path / "whole.pt") for folder in (source, two))
    assert len(found) == 4 * len([name for name in found if "/" not in name])
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_that_is_not_finite_on_one_process_stops_both_and_one_says_so(runs, ends, kind):
    spoken, silent = sorted(ends[f"{kind}-nan"], reverse=True)
    assert isinstance(spoken, Failure)
    assert spoken.startswith("TrainingError step 5 has loss nan")
    assert "(batches 8 to 9)" in spoken
    assert silent == "SystemExit 2"
    assert [folder.name for folder in (runs / f"{kind}-nan").glob("step-*")] == ["step-0000003"]


def test_a_signal_to_one_process_saves_once_and_stops_both(runs, ends):
    assert ends["preempted"] == ((2, "SIGTERM", True), (2, "SIGTERM", False))
    assert names(runs / "preempted") == ["log.jsonl", "step-0000002"]


def test_a_mistake_on_one_process_ends_the_other_without_a_word(ends):
    leader, other = ends["mistake"]
    assert leader == "SystemExit 2"
    assert other == "TypeError 'NoneType' object is not callable"


def test_an_error_while_a_checkpoint_is_written_in_the_background_ends_all_at_the_next(runs, ends):
    assert ends["disk"] == ("CheckpointError the disk is full: buy one", "SystemExit 2")
    assert len(losses(runs / "disk")) == 6
    assert names(runs / "disk") == ["log.jsonl", "step-0000003"]


def test_a_sharded_weight_is_ternarised_whole_and_once_for_an_update(ends):
    codes, scale = (part[0].tolist() for part in ternarise([WEIGHT]))
    opposite = ternarise([-WEIGHT])[0][0].tolist()
    assert [own for own, *_ in ends["ternarise"]] == [20, 15]
    for _, once, numbers in ends["ternarise"]:
        assert once
        assert numbers == [codes, scale, opposite, scale]


def test_a_device_that_is_not_there_is_named(straight_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match=r"train\.device 'cuda' cannot be used: PyTorch sees 0 GPUs"):
        start(recipe_of(straight_recipe, "train.device=cuda"), tmp_path / "out")
