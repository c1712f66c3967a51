"""Tasks through lm-eval: its prompts, figures checked by hand, no torch, clean ends."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from speakers import SPEAKER, run_unmul

from unmul.cli.app import main
from unmul.errors import DataError, MissingExtraError, UsageError
from unmul.evaluate import open_any, run_tasks
from unmul.evaluate.tasks import QUIET
from unmul.runtime import folder_tokenizer

pytest.importorskip("lm_eval", reason="lm-eval is not installed")

ITEMS = {
    "arc_easy.test": [
        {"question": "Why?", "choices": ["The sun", "a little house and the birds sang"], "answer": 1},
        {"question": "Who sang?", "choices": ["birds", "The sun rose, one by one", "a"], "answer": 0},
        {"question": "Why?", "choices": ["once upon a time", "sun"], "answer": 0},
    ],
    "arc_challenge.test": [{"question": "Why?", "choices": ["sun", "birds"], "answer": 1}],
    "hellaswag.validation": [{"question": "Sun: It rose. the sun", "choices": ["sang.", "rose."], "answer": 1}],
    "openbookqa.test": [{"question": "The sun", "choices": ["rose", "sang"], "answer": 0}],
    "piqa.validation": [{"question": "How?", "choices": ["Sing.", "Rise."], "answer": 1}],
    "winogrande_xl.dev": [{"contexts": ["So Sarah", "So Maria"], "continuation": "sang one by one.", "answer": 1}],
    "lambada_openai.test": [{"text": "Once upon a time"}, {"text": "The sun rose"}],
    "blimp": [
        {"uid": "adjunct_island", "good": "The sun rose.", "bad": "Sun the rose."},
        {"uid": "adjunct_island", "good": "Birds sang.", "bad": "Sang birds."},
        {"uid": "causative", "good": "The birds sang.", "bad": "The sun sang birds."},
    ],
}

# What lm-eval's definitions ask of a model for the first item: contexts and continuations.
ASKED = {
    "arc_challenge": [("Question: Why?\nAnswer:", " sun"), ("Question: Why?\nAnswer:", " birds")],
    "hellaswag": [("Sun: It rose. The sun", " sang."), ("Sun: It rose. The sun", " rose.")],
    "openbookqa": [("The sun", " rose"), ("The sun", " sang")],
    "piqa": [("Question: How?\nAnswer:", " Sing."), ("Question: How?\nAnswer:", " Rise.")],
    "winogrande": [("So Sarah", " sang one by one."), ("So Maria", " sang one by one.")],
    "lambada_openai": [("Once upon a", " time"), ("The sun", " rose")],
    "blimp": [("", " The sun rose."), ("", " Sun the rose.")],
}


class Silent:
    """A meter that shows nothing."""

    def __init__(self, label, total):
        self.total = total

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        pass

    def update(self, done, remark):
        assert 0 < done <= self.total


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("items")
    for name, rows in ITEMS.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def run(speaker, data):
    """run_tasks on the small random model and the files above."""

    def call(*names, folder=speaker, limit=None, meter=Silent, data=data):
        engine = open_any(folder)
        tokenizer = folder_tokenizer(folder, engine.config)
        return run_tasks(engine, tokenizer, names, data=data, limit=limit, open_meter=meter)

    return call


@pytest.fixture
def log_probability(speaker):
    """Of a continuation after a context, by plain logits of the whole text."""
    engine, tokenizer = open_any(speaker), folder_tokenizer(speaker, SPEAKER)

    def of(context, continuation):
        start = len(tokenizer.encode(context).ids)
        ids = [0, *tokenizer.encode(context + continuation).ids]
        logits = engine.forward(ids, engine.new_state(), every=True).astype(np.float64)
        return sum(logits[at][ids[at + 1]] - math.log(np.exp(logits[at]).sum()) for at in range(start, len(ids) - 1))

    return of


@pytest.mark.parametrize("name", ASKED)
def test_a_task_asks_what_lm_eval_defines(run, monkeypatch, name):
    from unmul.evaluate.harness import HarnessLM

    asked = []
    monkeypatch.setattr(
        HarnessLM, "loglikelihood", lambda self, reqs: asked.extend(r.args for r in reqs) or [(-1.0, False)] * len(reqs)
    )
    run(name)
    assert asked[: len(ASKED[name])] == ASKED[name]


def test_acc_and_acc_norm_are_those_of_plain_logits(run, log_probability):
    plain, normed = [], []
    for item in ITEMS["arc_easy.test"]:
        logs = [log_probability(f"Question: {item['question']}\nAnswer:", f" {choice}") for choice in item["choices"]]
        plain.append(np.argmax(logs) == item["answer"])
        normed.append(np.argmax(np.divide(logs, [len(choice) for choice in item["choices"]])) == item["answer"])
    assert plain != normed
    figures = run("arc_easy")["tasks"]["arc_easy"]
    assert (figures["acc"], figures["acc_norm"]) == (np.mean(plain), np.mean(normed))
    assert figures["acc_stderr"] == pytest.approx(np.std(plain, ddof=1) / math.sqrt(3))
    assert (figures["items"], figures["version"]) == (3, 1.0)


def test_lambada_perplexity_is_that_of_the_last_words(run, log_probability):
    found = run("lambada_openai")["tasks"]["lambada_openai"]
    mean = np.mean([log_probability("Once upon a", " time"), log_probability("The sun", " rose")])
    assert found["perplexity"] == pytest.approx(math.exp(-mean), rel=1e-5)
    assert found["perplexity_stderr"] > 0


def test_blimp_is_the_mean_of_its_parts_and_begins_after_the_begin_token(run, log_probability):
    right = [
        log_probability("", f" {item['good']}") > log_probability("", f" {item['bad']}") for item in ITEMS["blimp"]
    ]
    found = run("blimp")["tasks"]["blimp"]
    assert found["parts"]["blimp_adjunct_island"]["acc"] == np.mean(right[:2])
    assert found["parts"]["blimp_causative"]["acc"] == right[2]
    assert found["acc"] == (np.mean(right[:2]) + right[2]) / 2
    assert found["items"] == 3


def test_packed_and_latent_models_agree(run, speaker):
    names = ("arc_easy", "blimp", "lambada_openai")
    packed, latent = (run(*names, folder=folder)["tasks"] for folder in (speaker, speaker.with_name("packed.latent")))
    logs = [math.log(found["lambada_openai"]["perplexity"]) for found in (latent, packed)]
    assert logs[0] == pytest.approx(logs[1], rel=5e-3)  # 8-bit embeddings and bf16 gains
    for name, figure in (("arc_easy", "acc"), ("arc_easy", "acc_norm"), ("blimp", "acc")):
        assert abs(latent[name][figure] - packed[name][figure]) <= 1 / 3  # one item of three


def test_a_limit_takes_the_first_items_and_is_recorded(run):
    found = run("arc_easy", limit=1)
    assert found["tasks"]["arc_easy"]["items"] == found["limit"] == 1


def test_texts_are_scored_whole_and_generated_up_to_a_stop(speaker):
    from lm_eval.api.instance import Instance

    from unmul.evaluate import Document, measure
    from unmul.evaluate.harness import HarnessLM

    engine, tokenizer = open_any(speaker), folder_tokenizer(speaker, SPEAKER)
    model = HarnessLM(engine, tokenizer, Silent)

    def ask(kind, *arguments):
        (found,) = getattr(model, kind)([Instance(kind, {}, arguments, 0)])
        return found

    ids = tokenizer.encode("The sun rose.").ids
    (bits,) = measure(engine, [Document(ids, 13)], 0)
    assert ask("loglikelihood_rolling", "The sun rose.") == pytest.approx(-bits.bits * math.log(2))
    whole = ask("generate_until", "The sun", {"until": [], "max_gen_toks": 12})
    state = engine.new_state()
    logits = engine.forward([0, *tokenizer.encode("The sun").ids], state)
    expected = []
    while len(expected) < 12 and (token := int(logits.argmax())) != 0:
        expected.append(token)
        logits = engine.forward([token], state)
    assert whole == tokenizer.decode(expected)
    assert (
        ask("generate_until", "The sun", {"until": whole[3:5], "max_gen_toks": 12}) == whole[: whole.find(whole[3:5])]
    )


def test_the_command_writes_one_document_with_all_versions(capsys, speaker, data):
    words = ["eval", str(speaker), "--tasks", "piqa,arc_easy", "--data", str(data), "--limit", "2", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(found) == ["data", "limit", "model", "seconds", "tasks", "versions"]
    assert list(found["tasks"]) == ["piqa", "arc_easy"]
    assert sorted(found["versions"]) == ["lm_eval", "unmul"]
    assert found["model"]["checksum"].startswith("sha256:")
    assert found["data"]["piqa"]["file"] == "piqa.validation.jsonl"
    assert found["model"]["backend"].startswith("cpu")


def test_the_command_shows_figures_and_says_that_a_limit_is_a_trial(speaker, data):
    done = run_unmul("eval", speaker, "--tasks", "arc_easy,lambada_openai", "--data", data, "--limit", "2")
    assert done.stdout.startswith("arc_easy acc               0.")
    assert "± " in done.stdout
    assert done.stderr.splitlines() == [
        "only the first 2 items of each task: a trial, not a result",
        "preparing items; scoring begins when all are ready",
    ]


def test_a_packed_model_needs_no_torch(speaker, data):
    code = (
        "import sys; from unmul.cli.app import main; "
        f"status = main(['eval', {str(speaker)!r}, '--tasks', 'arc_easy,lambada_openai', '--data', {str(data)!r}]); "
        "print(status, [name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_ctrl_c_ends_a_run_and_leaves_the_process_as_it_was(run):
    class Pressed(Silent):
        def update(self, done, remark):
            raise KeyboardInterrupt

    before = dict(os.environ)
    with pytest.raises(KeyboardInterrupt):
        run("arc_easy", meter=Pressed)
    assert dict(os.environ) == before
    assert not QUIET.keys() & before.keys()


def test_without_lm_eval_the_extra_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(MissingExtraError, match=r"lm-eval is not installed: pip install 'unmul\[eval\]'"):
        run("arc_easy")


def test_a_task_without_a_local_format_is_refused(run):
    with pytest.raises(UsageError, match="task 'mmlu' has no local format: choose from arc_easy, "):
        run("mmlu")


def test_an_item_of_an_unknown_phenomenon_is_refused(run, tmp_path):
    (tmp_path / "blimp.jsonl").write_text('{"uid": "adverbs", "good": "a", "bad": "b"}\n')
    with pytest.raises(DataError, match="has items of blimp_adverbs"):
        run("blimp", data=tmp_path)


class Hub:
    """In place of lm-eval's TaskManager, which reads 14,000 files: two names, and a hub that does not answer."""

    task_index = all_tasks = {"arc_easy": None, "arc_challenge": None}  # noqa: RUF012

    def load(self, names):
        raise ConnectionError(f"Couldn't reach {names}\nafter 5 tries")


def test_a_hub_that_does_not_answer_is_one_line_that_names_the_way_out(run, monkeypatch):
    monkeypatch.setattr("lm_eval.tasks.TaskManager", Hub)
    with pytest.raises(DataError) as raised:
        run("arc_easy", data=None)
    assert str(raised.value) == (
        "the hub's data cannot be had (Couldn't reach ['arc_easy']): give local files with --data DIR"
    )


def test_a_name_that_lm_eval_does_not_know_gets_the_nearest(run, monkeypatch):
    monkeypatch.setattr("lm_eval.tasks.TaskManager", Hub)
    with pytest.raises(UsageError, match=r"lm-eval has no task 'arc_esy': did you mean 'arc_easy'\?"):
        run("arc_esy", data=None)
