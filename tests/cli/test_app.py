"""The frame of the command line: a frozen surface, one line for an error, quiet ends."""

import inspect
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from cyclopts import App
from speakers import SPEAKER, run_unmul, speaking_latent

from unmul.checkpoint import pack
from unmul.cli.app import VERBS, app, main
from unmul.cli.rtl import RTL_VERBS

# The command line is a promise: a change here is a change for every user. Names as a reader sees them.
SURFACE = {
    "run": "MODEL --prompt -p --new -n --temp --top-p --top-k --seed --threads -t --device --json",
    "train": "RECIPE --set --out --resume --json",
    "plot": "RUN --x --out --json",
    "eval": "MODEL --text --window --tasks --data --limit --device --dtype --json",
    "pack": "LATENT PACKED --embeddings --json",
    "serve": "MODEL --host --port --api-key-env --sessions --slots --queue --state-memory --threads -t --device --json",
    "bench": "MODEL --preset --threads -t --prompt --new --batch --profile --device --json",
    "rtl": "build sim synth bitstream report",
    "info": "MODEL --json",
    "doctor": "--json",
}


RTL_SURFACE = {
    "build": "MODEL --board --lanes --out --json",
    "sim": "MODEL --prompt -p --new -n --board --lanes --json",
    "synth": "MODEL --board --lanes --seeds --json",
    "bitstream": "BUILD --out --clock --seed --json",
    "report": "MODEL --board --lanes --simulate --out --json",
}


def names_of(command: App) -> str:
    if command.default_command is None:
        return " ".join(RTL_VERBS)
    words = []
    for argument in command.assemble_argument_collection(default_parameter=app.default_parameter):
        positional = argument.field_info.kind is inspect.Parameter.POSITIONAL_ONLY
        words += [argument.name.lstrip("-").upper()] if positional else argument.names
    return " ".join(words)


def test_the_verbs_are_the_promised_ones():
    assert list(VERBS) == list(SURFACE)


@pytest.mark.parametrize("verb", SURFACE)
def test_the_flags_of_a_verb_are_the_promised_ones(verb):
    assert names_of(app[verb]) == SURFACE[verb]


@pytest.mark.parametrize("verb", RTL_SURFACE)
def test_the_flags_of_an_rtl_verb_are_the_promised_ones(verb):
    assert list(RTL_VERBS) == list(RTL_SURFACE)
    assert names_of(app["rtl"][verb]) == RTL_SURFACE[verb]


def test_help_names_every_verb_and_loads_none():
    code = (
        "import sys; from unmul.cli.app import main; main(['--help']); print([m for m in sys.modules if 'unmul' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *page, modules = done.stdout.splitlines()
    assert all(any(f" {verb} " in line for line in page) for verb in VERBS)
    assert "unmul.cli.run" not in modules
    assert "numpy" not in modules


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["rum"], "unknown verb 'rum'. Did you mean 'run'? (see unmul --help)"),
        (["--versoin"], "unknown verb '--versoin'. Did you mean '--version'? (see unmul --help)"),
        (["conquer"], f"unknown verb 'conquer'. Choose one of {', '.join(VERBS)} (see unmul --help)"),
        (["rtl", "bild"], "unknown verb 'bild'. Did you mean 'build'? (see unmul rtl --help)"),
        (["run", "--promt", "a"], "Unknown option: --promt. Did you mean --prompt? (see unmul run --help)"),
        (["run", "-n", "x"], 'Invalid value for -n: unable to convert "x" into int (see unmul run --help)'),
        (["run", "-n", "0", "-p", "a"], "-n 0 is not a count: choose 1 or more"),
        (["rtl", "sim", "-n", "-1", "-p", "a"], "-n -1 is not a count: choose 1 or more"),
        (["run", "--temp"], "--temp requires an argument (see unmul run --help)"),
        (["run", "a", "b"], "unexpected argument 'b' (see unmul run --help)"),
        (["pack", "a"], "PACKED is missing (see unmul pack --help)"),
        (["eval", "a", "--txt", "b"], "Unknown option: --txt. Did you mean --text? (see unmul eval --help)"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_word_is_one_line_that_names_the_right_one(capsys, words, line):
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"error: {line}\n"


def test_debug_adds_the_traceback_and_keeps_the_status(capsys):
    assert main(["info", "nothing", "--debug"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("Traceback")
    assert "CheckpointError" in error
    assert error.splitlines()[-1].startswith("error: nothing is neither a folder nor a preset")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (OSError(28, "No space left on device", "/full/x"), 2, "error: /full/x: No space left on device"),
        (OSError("odd"), 2, "error: odd"),
        (MemoryError("for 9 TB"), 2, "error: not enough memory for 9 TB"),
        (
            ZeroDivisionError("oh"),
            1,
            "internal error: ZeroDivisionError: oh (please report it with the output of --debug)",
        ),
        (KeyboardInterrupt(), 130, ""),
    ],
    ids=["full-disk", "bare", "memory", "bug", "ctrl-c"],
)
def test_an_error_is_one_line_and_its_status(monkeypatch, capsys, error, status, line):
    def fail(name):
        raise error

    monkeypatch.setattr("unmul.cli.info.preset", fail)
    assert main(["info", "370m"]) == status
    assert capsys.readouterr().err == line + "\n"


def test_python_m_unmul_is_the_command_line():
    done = run_unmul("--version")
    assert (done.returncode, done.stdout) == (0, "0.1.0\n")


@pytest.fixture(scope="module")
def endless_text(tmp_path_factory):
    """A command that writes until it is stopped: its model has no token that ends a text."""
    folder = tmp_path_factory.mktemp("endless")
    pack(speaking_latent(folder / "latent", replace(SPEAKER, eos_token_id=None)), folder / "packed")
    return [sys.executable, "-m", "unmul", "run", str(folder / "packed"), "-p", "one", "-n", "10000000"]


def test_a_closed_pipe_ends_quietly(endless_text):
    with subprocess.Popen(endless_text, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_ctrl_c_ends_without_a_traceback(endless_text):
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(endless_text, start_new_session=True, **streams) as process:
        process.stdout.read(10)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert (process.returncode, error.strip()) == (130, b"")


def test_results_and_remarks_keep_to_their_streams(speaker):
    done = run_unmul("run", speaker, "-p", "one", "-n", "3", "--json")
    assert json.loads(done.stdout)["backend"].startswith("cpu")
    assert done.stderr == ""


def test_a_session_on_a_terminal_keeps_its_context_until_ctrl_d(speaker):
    pty = pytest.importorskip("pty")
    main_end, terminal = pty.openpty()
    words = [sys.executable, "-m", "unmul", "run", str(speaker), "-n", "4", "--temp", "0"]
    with subprocess.Popen(words, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True) as process:
        os.close(terminal)
        seen = until(main_end, b"> ")
        assert b"packed: " in seen
        assert b"Ctrl-D leaves" in seen
        for line in (b"Once\n", b"Once\n"):
            os.write(main_end, line)
            seen = until(main_end, b"> ", seen)
        os.write(main_end, b"\x04")
        assert process.wait(timeout=60) == 0
    os.close(main_end)
    first, second = seen.split(b"> Once\r\n")[1:]
    assert first.strip()
    assert first != second


def until(terminal: int, sign: bytes, seen: bytes = b"") -> bytes:
    """Read a terminal until it shows the sign once more than before."""
    wanted, deadline = seen.count(sign) + 1, time.monotonic() + 60
    while seen.count(sign) < wanted and time.monotonic() < deadline:
        seen += os.read(terminal, 1000)
    return seen
