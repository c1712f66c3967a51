"""train.run end to end: loss falls, checkpoints pack and speak, a stopped run goes on to the same bits."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from tolerance import FLOAT32_SUMS

from unmul.checkpoint import PackedCheckpoint, pack, read_latent
from unmul.data.tokenizer import load_tokenizer
from unmul.engine.naive import NaiveEngine
from unmul.errors import CheckpointError, ConfigError, DataError, TrainingError, UsageError
from unmul.evaluate import Document, measure, open_any
from unmul.model.block import Block
from unmul.train import load_recipe, loop, run

UNMUL = "import sys; from unmul.cli.app import main; sys.exit(main())"


def start(recipe_file, out, *more):
    command = [sys.executable, "-c", UNMUL, "train", str(recipe_file), "--out", str(out), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def losses(out):
    lines = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def wait_for_steps(process, out, count):
    while process.poll() is None:
        if (out / "log.jsonl").exists() and (out / "log.jsonl").read_text().count("loss") >= count:
            return
        time.sleep(0.005)
    raise AssertionError(process.communicate())


@pytest.fixture(scope="module")
def straight(straight_recipe):
    """A run without interruption: its folder, recipe and result."""
    recipe, out = load_recipe(straight_recipe), straight_recipe.parent / "out"
    return out, recipe, run(recipe, out=out, lines=True)


def test_loss_falls_and_the_log_tells_every_step(straight):
    out, _, result = straight
    found = losses(out)
    assert sorted(found) == list(range(1, 61))
    assert found[60] == result.final_loss < 0.8 * found[1]
    assert (result.steps, result.tokens) == (60, 60 * 64)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    measured = {line["step"]: line["validation_bits_per_byte"] for line in lines if "validation_bits_per_byte" in line}
    assert sorted(measured) == [20, 40, 60]
    assert measured[60] == result.bits_per_byte < measured[20]
    assert lines[-1]["joules"] == result.joules
    assert (result.joules is None) == (result.joules_source is None) == bool(result.joules_reason)


def test_the_last_checkpoints_are_kept_and_tell_how_they_were_made(straight):
    out, recipe, result = straight
    assert sorted(folder.name for folder in out.glob("step-*")) == ["step-0000055", "step-0000060"]
    card = json.loads((result.checkpoint / "training.json").read_text())
    assert card["steps"] == 60
    assert card["recipe"] == json.loads(json.dumps(recipe.to_dict()))
    assert read_latent(result.checkpoint)[0].vocab_size == 300
    assert not list(out.glob(".*"))


def test_a_checkpoint_packs_speaks_and_measures_like_the_model_in_training(straight, tmp_path):
    _, recipe, result = straight
    pack(result.checkpoint, tmp_path / "packed", embeddings="bf16")
    engine = NaiveEngine(PackedCheckpoint.open(tmp_path / "packed"))
    tokenizer = load_tokenizer(tmp_path / "packed" / "tokenizer.json")
    assert (tmp_path / "packed" / "training.json").exists()
    ids, state = tokenizer.encode("the little").ids, engine.new_state()
    for _ in range(8):
        ids.append(int(engine.forward(ids[-1:] if state.any() else ids, state).argmax()))
    assert len(tokenizer.decode(ids)) > len("the little")
    held_out = [text for side, text in recipe.data.source.documents() if side == "validation"]
    documents = [Document(tokenizer.encode(text).ids, len(text)) for text in held_out]
    *_, total = measure(engine, documents, 0)
    assert total.bits_per_byte == pytest.approx(result.bits_per_byte, rel=0.01)  # bf16 embeddings and gains


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_run_that_was_stopped_resumes_to_the_same_bits(straight, recipe_file, tmp_path, number):
    out = tmp_path / "out"
    process = start(recipe_file, out)
    wait_for_steps(process, out, 7)
    process.send_signal(number)
    _, said = process.communicate()
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 128 + number
        assert f"unmul train {recipe_file} --out {out} --resume" in said
    assert len(losses(out)) < 60
    process = start(recipe_file, out, "--resume", "--json")
    answer, said = process.communicate()
    assert process.returncode == 0, said
    document = json.loads(answer)
    assert (document["steps"], document["tokens"]) == (60, 3840)
    assert losses(out) == losses(straight[0])
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (out / "step-0000060" / name).read_bytes() == (straight[0] / "step-0000060" / name).read_bytes(), name


OPTIONS = ["model.use_shared_norm=true", "model.use_state_norm=true", "train.optimizer=muon", "train.schedule=wsd"]


def test_a_run_that_is_out_of_time_saves_says_so_and_goes_on_to_the_same_bits(recipe_file, tmp_path):
    """With every option on, so that shared gains and two optimizers are saved and found again."""
    recipe = load_recipe(recipe_file, [*OPTIONS, "train.steps=8"])
    whole = run(recipe, out=tmp_path / "whole", lines=True)
    assert not whole.out_of_time
    limited = replace(recipe, train=replace(recipe.train, max_seconds=1e-9))
    first = run(limited, out=tmp_path / "parts", lines=True)
    assert (first.steps, first.out_of_time, first.signal) == (1, True, None)
    second = run(recipe, out=tmp_path / "parts", resume=True, lines=True)
    assert (second.steps, second.out_of_time) == (8, False)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    weights = [(result.checkpoint / "model.safetensors").read_bytes() for result in (whole, second)]
    assert weights[0] == weights[1]


def test_a_command_that_is_out_of_time_ends_well_and_names_the_next_one(recipe_file, tmp_path):
    process = start(recipe_file, tmp_path / "out", "--set", "train.max_seconds=0.001")
    _, said = process.communicate()
    assert process.returncode == 0
    assert "stopped by train.max_seconds after step 1, saved" in said
    assert "--resume" in said


def test_activations_that_are_computed_again_change_no_bit(straight, recipe_file, tmp_path, monkeypatch):
    calls, forward = [], Block.forward
    monkeypatch.setattr(Block, "forward", lambda *inputs: (calls.append(1), forward(*inputs))[1])
    run(load_recipe(recipe_file, ["train.checkpoint_activations=true"]), out=tmp_path / "out", lines=True)
    assert len(calls) > 2 * 2 * 60  # two blocks, each twice a step
    assert losses(tmp_path / "out") == losses(straight[0])


def test_gradients_of_8_bits_learn_alike(straight, recipe_file, tmp_path):
    run(load_recipe(recipe_file, ["train.int8_backward=true"]), out=tmp_path / "out", lines=True)
    rounded, exact = losses(tmp_path / "out"), losses(straight[0])
    assert rounded[1] == exact[1]  # the forward pass is the same
    assert rounded[2] != exact[2]
    assert rounded[60] == pytest.approx(exact[60], rel=0.05)


def test_a_run_draws_its_embeddings_as_wide_as_it_is_told(straight, recipe_file, tmp_path):
    result = run(
        load_recipe(recipe_file, ["train.embedding_range=0.5", "train.steps=1"]), out=tmp_path / "out", lines=True
    )
    assert losses(tmp_path / "out")[1] != losses(straight[0])[1]
    embeddings = read_latent(result.checkpoint)[1]["model.embeddings.weight"]
    assert float(embeddings.std()) == pytest.approx(0.5, rel=0.05)


def test_a_run_begins_unrounded_and_ends_as_the_model_that_it_is(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file, ["train.unrounded=0.5"])
    result = run(recipe, out=tmp_path / "half", lines=True)
    run(load_recipe(recipe_file, ["model.type=matmulfree-full"]), out=tmp_path / "full", lines=True)
    begun, unrounded = losses(tmp_path / "half"), losses(tmp_path / "full")
    assert [begun[step] for step in range(1, 31)] == [unrounded[step] for step in range(1, 31)]
    assert begun[31] != unrounded[31]
    tokenizer = load_tokenizer(result.checkpoint / "tokenizer.json")
    held_out = [text for side, text in recipe.data.source.documents() if side == "validation"]
    documents = [Document(tokenizer.encode(text).ids, len(text)) for text in held_out]
    *_, total = measure(open_any(result.checkpoint), documents, 0)
    assert total.bits_per_byte == pytest.approx(result.bits_per_byte, rel=FLOAT32_SUMS)


def test_a_run_that_begins_unrounded_goes_on_to_the_same_bits_on_both_sides_of_the_border(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file, ["train.unrounded=0.5", "train.steps=4"])
    whole = run(recipe, out=tmp_path / "whole", lines=True)
    limited = replace(recipe, train=replace(recipe.train, max_seconds=1e-9))
    parts = [run(limited, out=tmp_path / "parts", resume=bool(step), lines=True) for step in range(4)]
    assert [part.steps for part in parts] == [1, 2, 3, 4]
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    weights = [(result.checkpoint / "model.safetensors").read_bytes() for result in (whole, parts[-1])]
    assert weights[0] == weights[1]


def test_checkpoints_written_in_the_background_are_the_same(straight, recipe_file, tmp_path):
    result = run(load_recipe(recipe_file, ["train.async_checkpoint=true"]), out=tmp_path / "out", lines=True)
    assert result.checkpoint == tmp_path / "out" / "step-0000060"
    for name in ("step-0000055", "step-0000060"):
        weights = [folder / name / "model.safetensors" for folder in (straight[0], tmp_path / "out")]
        assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.fixture
def compiled(monkeypatch):
    """The options of every module that is compiled, by a backend that takes no C++ compiler."""
    found, compile_module = [], torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module,
        "compile",
        lambda module, **options: (found.append(options), compile_module(module, backend="aot_eager", **options)),
    )
    return found


@pytest.mark.filterwarnings("ignore")  # dynamo touches what warns, and hides that in its own way
def test_compiled_layers_learn_the_same(straight, recipe_file, tmp_path, compiled):
    run(load_recipe(recipe_file, ["train.compile=true", "train.steps=3"]), out=tmp_path / "out", lines=True)
    assert compiled == [{"dynamic": False}] * 2
    expected = losses(straight[0])
    assert losses(tmp_path / "out")[1] == pytest.approx(expected[1], rel=FLOAT32_SUMS)


@pytest.mark.filterwarnings("ignore")
def test_compiled_layers_begin_unrounded_and_round_afterwards(recipe_file, tmp_path, compiled):
    overrides = ["train.unrounded=0.5", "train.steps=4", "train.lr=1e-5"]
    run(load_recipe(recipe_file, overrides), out=tmp_path / "plain", lines=True)
    run(load_recipe(recipe_file, [*overrides, "train.compile=true"]), out=tmp_path / "compiled", lines=True)
    assert len(compiled) == 2
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), rel=1e-5)


def test_what_a_killed_run_left_behind_is_removed(recipe_file, tmp_path):
    (tmp_path / "out" / ".step-0000007.resume").mkdir(parents=True)
    run(load_recipe(recipe_file, ["train.steps=1"]), out=tmp_path / "out", lines=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["log.jsonl", "shards", "step-0000001"]


def test_a_run_is_not_overwritten_and_not_continued_as_another(straight, tmp_path):
    out, recipe, _ = straight
    with pytest.raises(UsageError, match="holds a run already"):
        run(recipe, out=out, lines=True)
    other = replace(recipe, train=replace(recipe.train, lr=0.02))
    with pytest.raises(ConfigError, match=r"train\.lr is 0\.02, but .*step-0000060 was trained with 0\.01"):
        run(other, out=out, resume=True, lines=True)


def test_resuming_a_finished_run_changes_nothing(straight):
    out, recipe, result = straight
    before = (out / "log.jsonl").read_bytes()
    again = run(recipe, out=out, resume=True, lines=True)
    assert (again.steps, again.checkpoint, again.final_loss) == (60, result.checkpoint, None)
    assert (out / "log.jsonl").read_bytes() == before


def test_a_changed_text_is_not_resumed(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file, ["train.steps=2"])
    run(recipe, out=tmp_path / "out", lines=True)
    with (tmp_path / "text.txt").open("a") as handle:
        handle.write("\n<|endoftext|>\nMore.")
    with pytest.raises(ConfigError, match="other text"):
        run(recipe, out=tmp_path / "out", resume=True, lines=True)


@pytest.mark.parametrize("damaged", [".metadata", "__0_0.distcp"])
def test_a_damaged_checkpoint_is_not_resumed(recipe_file, tmp_path, damaged):
    recipe = load_recipe(recipe_file, ["train.steps=2"])
    result = run(recipe, out=tmp_path / "out", lines=True)
    (result.checkpoint / "resume" / damaged).write_bytes(b"not a state")
    with pytest.raises(CheckpointError, match="cannot be resumed from"):
        run(recipe, out=tmp_path / "out", resume=True, lines=True)


def test_a_step_gone_wrong_leaves_the_last_checkpoint_alone(recipe_file, tmp_path, monkeypatch):
    recipe = load_recipe(recipe_file, ["train.steps=9"])
    true_loss, calls = loop.loss_of, []

    def breaks_at_seven(model, tokens, train):
        calls.append(tokens)
        return true_loss(model, tokens, train) * (float("nan") if len(calls) == 7 else 1)

    monkeypatch.setattr(loop, "loss_of", breaks_at_seven)
    with pytest.raises(TrainingError, match=r"step 7 has loss nan .*\(batches 6 to 6\)"):
        run(recipe, out=tmp_path / "out", lines=True)
    assert [folder.name for folder in (tmp_path / "out").glob("step-*")] == ["step-0000005"]


def test_a_gpu_that_gives_up_is_one_sentence_with_a_way_on(recipe_file, tmp_path, monkeypatch):
    def fails(*ignored):
        raise torch.AcceleratorError("CUDA error: unspecified launch failure\nSearch for `cudaErrorLaunchFailure'")

    monkeypatch.setattr(loop, "loss_of", fails)
    with pytest.raises(TrainingError, match=r"CUDA error: unspecified launch failure\): .* with --resume"):
        run(load_recipe(recipe_file), out=tmp_path / "out", lines=True)


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["data.vocab_size=60000"], "too large for the text"),
        (["train.batch=5000"], r"train\.batch asks for 5000"),
        (["data.validation=1e-9"], "leaves no validation text"),
    ],
)
def test_text_that_does_not_suffice_is_refused(recipe_file, tmp_path, overrides, problem):
    with pytest.raises(DataError, match=problem):
        run(load_recipe(recipe_file, overrides), out=tmp_path / "out", lines=True)


def test_a_file_in_the_way_of_the_output_is_one_clear_line(recipe_file, tmp_path):
    (tmp_path / "out").write_text("in the way")
    process = start(recipe_file, tmp_path / "out")
    _, said = process.communicate()
    assert process.returncode == 2
    assert said.count("\n") == 1
    assert said.startswith("error: ")


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit is not installed")
@pytest.mark.parametrize("room", [100_000, 200_000], ids=["no-room-for-weights", "no-room-for-optimizer"])
def test_a_full_disk_leaves_no_half_checkpoint(recipe_file, tmp_path, room):
    limited = ["prlimit", f"--fsize={room}", sys.executable, "-c", UNMUL]
    command = [*limited, "train", str(recipe_file), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 2
    assert re.fullmatch(r"error: .* cannot be written \(File too large\): .*", done.stderr.strip().splitlines()[-1])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["log.jsonl", "shards"]
