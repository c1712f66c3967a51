"""What run, eval, pack, info and doctor answer, as text and as one JSON document."""

import json
import lzma
import math
import re

import pytest
from speakers import SPEAKER, run_unmul, speaking_latent

import unmul
from unmul import SamplingParams, energy
from unmul.checkpoint.packed import packed_specs
from unmul.cli.app import main
from unmul.cli.doctor import checks, shutil
from unmul.cli.output import megabytes, rows
from unmul.cli.progress import Progress

RUN_KEYS = {"text", "prompt_ids", "new_ids", "prefill_tokens_per_s", "decode_tokens_per_s", "load_s", "peak_rss_bytes"}


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("Once upon a time.\n<|endoftext|>\nThe sun rose: déjà vu.\n", "utf-8")
    return path


def answer(capsys, *words):
    """The JSON document of a verb."""
    assert main([*map(str, words), "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


def test_run_json_has_exactly_the_promised_keys(capsys, speaker):
    found = answer(capsys, "run", speaker, "-p", "Once", "-n", 7, "--temp", 0)
    assert found.keys() == RUN_KEYS | {"backend"}
    model = unmul.load(speaker)
    assert found["text"] == "".join(model.generate("Once", max_new_tokens=7, sampling=SamplingParams(temperature=0)))
    assert (found["prompt_ids"], found["new_ids"]) == (model.last.prompt_ids, model.last.new_ids)
    assert min(found[key] for key in ("prefill_tokens_per_s", "decode_tokens_per_s", "load_s", "peak_rss_bytes")) > 0


def test_run_writes_text_to_stdout_and_figures_to_stderr(speaker):
    done = run_unmul("run", speaker, "-p", "The", "-n", "9", "--seed", "1")
    again = run_unmul("run", speaker, "--seed=1", "--new=9", "-t1", input="The\n")
    assert (done.returncode, done.stdout) == (0, again.stdout)
    assert re.fullmatch(
        r"prompt \d tokens at [\d,]+/s \| text 9 tokens at [\d,]+/s \| model [\d.]+ kB \| state 512 B"
        r" \| peak memory [\d.]+ MB \| cpu \w+, \d+ threads?\n",
        done.stderr,
    )


def test_ctrl_c_stops_an_answer_and_not_the_session(monkeypatch, capsys, speaker):
    lines = iter(["Once", "upon"])
    prompts = []

    def generate(model, prompt, *, resume, **options):
        prompts.append((prompt, resume))
        yield "half an"
        raise KeyboardInterrupt

    def ask(sign):
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", ask)
    monkeypatch.setattr(unmul.Model, "generate", generate)
    assert main(["run", str(speaker)]) == 0
    assert prompts == [("Once", False), ("\nupon", True)]
    assert capsys.readouterr().out == "half an\nhalf an\n\n"


def test_eval_counts_text_and_not_the_separating_line(capsys, speaker, text_file):
    found = answer(capsys, "eval", speaker, "--text", text_file)
    assert sorted(found) == ["backend", "bits_per_byte", "bytes", "files", "perplexity", "tokens", "windowed"]
    assert sorted(found["windowed"]) == ["bits_per_byte", "perplexity", "window"]
    assert found["bytes"] == len("Once upon a time.\nThe sun rose: déjà vu.\n".encode())
    assert found["perplexity"] == pytest.approx(2 ** (found["bits_per_byte"] * found["bytes"] / found["tokens"]))
    assert 0 < found["bits_per_byte"] < math.inf


def test_eval_of_a_latent_folder_runs_in_torch_and_agrees(capsys, speaker, text_file):
    packed = answer(capsys, "eval", speaker, "--text", text_file)
    latent = answer(capsys, "eval", speaker.with_name("packed.latent"), "--text", text_file)
    assert latent["tokens"] == packed["tokens"]
    assert latent["bits_per_byte"] == pytest.approx(packed["bits_per_byte"], rel=5e-3)


def test_eval_reads_compressed_text_and_stops_at_the_limit(capsys, speaker, text_file):
    packed = text_file.with_suffix(".txt.xz")
    packed.write_bytes(lzma.compress(text_file.read_bytes()))
    (whole, plain) = (answer(capsys, "eval", speaker, "--text", file) for file in (packed, text_file))
    assert whole.pop("files")[0]["file"] == str(packed)
    assert whole == {key: value for key, value in plain.items() if key != "files"}
    assert answer(capsys, "eval", speaker, "--text", packed, "--limit", 1)["bytes"] == 18


def test_eval_shows_its_figures(capsys, speaker, text_file):
    assert main(["eval", str(speaker), "--text", str(text_file)]) == 0
    shown = capsys.readouterr().out
    assert re.match(
        r"bits per byte +\d\.\d{4}\nperplexity +[\d.]+ per token\nin windows of 2048 +\d\.\d{4} bits", shown
    )
    assert str(text_file) not in shown


def test_eval_gives_each_of_several_texts_and_their_sum(capsys, tmp_path, speaker, text_file):
    other = tmp_path / "other.txt"
    other.write_text("One by one.")
    found = answer(capsys, "eval", speaker, "--text", text_file, "--text", other, "--window", 4)
    assert [part["file"] for part in found["files"]] == [str(text_file), str(other)]
    for key in ("tokens", "bytes"):
        assert found[key] == sum(part[key] for part in found["files"])
    for total, parts in ((found, found["files"]), (found["windowed"], [part["windowed"] for part in found["files"]])):
        bits = sum(part["bits_per_byte"] * file["bytes"] for part, file in zip(parts, found["files"], strict=True))
        assert total["bits_per_byte"] == pytest.approx(bits / found["bytes"])
    assert found["windowed"]["window"] == 4
    assert main(["eval", str(speaker), "--text", str(text_file), "--text", str(other)]) == 0
    assert f"{other} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "--text and --tasks are both missing"),
        (["--text", "a", "--tasks", "piqa"], "--text and --tasks are both given"),
        (["--text", "a", "--data", "b"], "--data b has no --tasks"),
        (["--tasks", "piqa", "--window", "8"], "--window 8 cannot be used"),
        (["--text", "a", "--window", "0"], "--window 0 cannot be used"),
    ],
    ids=["neither", "both", "data", "window-of-tasks", "window-of-nothing"],
)
def test_eval_refuses_flags_that_do_not_go_together(capsys, words, problem):
    assert main(["eval", "nothing", *words]) == 2
    assert capsys.readouterr().err.startswith(f"error: {problem}: ")


@pytest.mark.parametrize("embeddings", ["int8", "bf16"])
def test_pack_says_what_it_saved_and_what_comes_next(capsys, tmp_path, embeddings):
    latent, packed = speaking_latent(tmp_path / "latent"), tmp_path / "packed"
    found = answer(capsys, "pack", latent, packed, "--embeddings", embeddings)
    assert found["bytes_before"] == 4 * SPEAKER.parameters
    assert found["bytes_after"] == (packed / "model.safetensors").stat().st_size
    assert 1.6 < found["bits_per_weight"] < 1.7
    assert main(["pack", str(latent), str(packed)]) == 0
    captured = capsys.readouterr()
    assert "bits each" in captured.out
    assert captured.err == f'next: unmul run {packed} -p "Once upon a time"\n'


def test_info_counts_the_file_by_kind(capsys, speaker):
    found = answer(capsys, "info", speaker)
    assert found["kind"] == "packed"
    assert found["parameters"] == SPEAKER.parameters
    assert found["bytes"]["total"] == sum(found["bytes"][kind] for kind in ("ternary", "embeddings", "other"))
    assert found["bytes"]["total"] == sum(spec.nbytes for spec in packed_specs(SPEAKER).values())
    assert found["state_bytes"] == unmul.load(speaker).state.nbytes
    assert found["tokenizer_entries"] == 300


def test_info_of_a_latent_folder_without_tokenizer(capsys, latent):
    found = answer(capsys, "info", latent)
    assert (found["kind"], found["bits_per_weight"], found["tokenizer_entries"]) == ("latent", 32, None)


def test_info_says_the_width_of_a_token_mixer_that_is_wider_than_the_model(capsys, wide, latent):
    found = answer(capsys, "info", wide)
    assert (found["shape"]["expand_ratio"], found["state_bytes"]) == (2, 4 * 3 * 84)
    assert main(["info", str(wide)]) == main(["info", str(latent)]) == 0
    widths = [line for line in capsys.readouterr().out.splitlines() if line.startswith("width")]
    assert [line.split(maxsplit=1)[1] for line in widths] == [
        "42, 84 in the token mixer, 77 in the channel mixer",
        "42, 77 in the channel mixer",
    ]


def test_info_tells_how_a_folder_was_trained(capsys, tmp_path):
    latent = speaking_latent(tmp_path / "latent")
    (latent / "training.json").write_text('{"steps": 1200, "tokens": 4915200}')
    assert answer(capsys, "info", latent)["training"]["steps"] == 1200
    assert main(["info", str(latent)]) == 0
    assert "1,200 steps, 4,915,200 tokens\n" in capsys.readouterr().out
    card = {"steps": 1200, "tokens": 4915200, "before": {"steps": 9000, "tokens": 36864000, "flops": 1}}
    (latent / "training.json").write_text(json.dumps(card))
    assert main(["info", str(latent)]) == 0
    assert "4,915,200 tokens, after 9,000 steps, 36,864,000 tokens\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("preset", "parameters"), [("370m", 374_108_160), ("1.3b", 1_364_779_008), ("2.7B", 2_702_357_504)]
)
def test_info_of_a_preset_is_what_packing_it_would_give(capsys, preset, parameters):
    found = answer(capsys, "info", preset)
    assert (found["kind"], found["parameters"]) == ("preset", parameters)
    assert 1.6 <= found["bits_per_weight"] < 1.61
    assert main(["info", preset]) == 0
    assert f"{parameters:,}" in capsys.readouterr().out


def test_doctor_gives_a_remedy_for_all_that_is_missing(capsys):
    found = answer(capsys, "doctor")["checks"]
    names = [check["name"] for check in found]
    assert {"python", "processor", "memory", "engine", "model", "gpu", "torch", "energy"} <= set(names)
    assert all(check["ok"] or check["remedy"] for check in found)
    assert main(["doctor"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(found)


def test_doctor_names_the_kernels_that_run(monkeypatch, speaker):
    monkeypatch.setattr("unmul.runtime.model.DEFAULT_MODEL", speaker)
    found = {check.name: check for check in checks()}
    isa = unmul.load().backend.split()[1].rstrip(",")
    assert found["engine"].found.startswith(f"native {isa},")
    assert found["model"].ok


def test_doctor_says_which_meter_cannot_be_read(monkeypatch, tmp_path):
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for name, text in (("name", "package-0"), ("max_energy_range_uj", "1000"), ("energy_uj", "1")):
        (zone / name).write_text(text)
    assert (found := list(checks())[-1]).ok
    assert found.found == "RAPL package-0"
    (zone / "energy_uj").unlink()
    assert not (found := list(checks())[-1]).ok
    assert str(zone / "energy_uj") in found.found


def test_progress_is_plain_lines_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr("unmul.cli.progress.LINE_EVERY_S", 0)
    with Progress("eval", 200) as progress:
        progress.update(50, "1.5 bits per byte")
    assert capsys.readouterr().err == "eval 25%, 1.5 bits per byte\n"


@pytest.mark.parametrize(
    ("count", "text"), [(812, "812 B"), (41_200, "41.2 kB"), (3_100_000, "3.1 MB"), (1_364_779_008, "1.36 GB")]
)
def test_bytes_are_counted_in_powers_of_ten(count, text):
    assert megabytes(count) == text


def test_rows_are_aligned():
    assert rows([("a", "1"), ("long", "2")]) == "a     1\nlong  2"
