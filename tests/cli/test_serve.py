"""unmul serve, from outside."""

import importlib
import json
import os
import signal
import subprocess
import sys

import httpx
import pytest
from speakers import run_unmul

from unmul.errors import MissingExtraError

LONGEST_S = 60


def started(*words, **options):
    command = [sys.executable, "-m", "unmul", "serve", *map(str, words), "--port", "0", "-t", "1"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.parametrize(("sign", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_the_server_says_where_it_is_and_a_signal_ends_it_quietly(speaker, sign, status):
    with started(speaker, "--json") as process:
        try:
            ready = json.loads("".join(process.stdout.readline() for _ in range(6)))
            answer = httpx.post(f"{ready['url']}/v1/completions", json={"prompt": "One", "max_tokens": 2}, timeout=30)
            process.send_signal(sign)
            out, err = process.communicate(timeout=LONGEST_S)
        finally:
            process.kill()
    assert ready.keys() == {"url", "model", "backend", "state_bytes"}
    assert ready["model"] == "packed"
    assert answer.status_code == 200
    assert (process.returncode, out, err.strip()) == (status, "", "")


def test_the_server_names_what_to_do_next(speaker):
    with started(speaker) as process:
        try:
            lines = [process.stdout.readline() for _ in range(3)]
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=LONGEST_S)
        finally:
            process.kill()
    assert lines[0].startswith("packed: ")
    assert lines[1].startswith("next:  open http://127.0.0.1:")
    assert "/v1/completions" in lines[2]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["nowhere"], "error: nowhere is not a folder: give the folder that holds config.json"),
        (["--api-key-env", "NOT_SET_ANYWHERE"], "error: the environment variable NOT_SET_ANYWHERE is empty: set it"),
        (["--port", "99999"], "error: port 99999 does not exist: choose 0 (any) to 65535"),
        (["--slots", "0"], "error: --slots 0 is not a count: choose 1 or more"),
        (["--state-memory", "-1"], "error: --state-memory -1 is negative"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_served_is_said_in_one_line(words, error):
    done = run_unmul("serve", *([] if "--port" in words else ["--port", "0"]), *words)
    assert done.returncode == 2
    assert done.stderr.startswith(error)
    assert len(done.stderr.splitlines()) == 1


def test_a_server_for_all_without_a_key_is_warned_about(speaker):
    with started(speaker, "--host", "0.0.0.0", "--json") as process:
        try:
            warning = process.stderr.readline()
        finally:
            process.kill()
    assert warning.startswith("warning: whoever reaches http://0.0.0.0:")


def test_without_the_extra_the_command_that_installs_it_is_named(speaker, tmp_path):
    (tmp_path / "fastapi.py").write_text("raise ModuleNotFoundError('fastapi')")
    done = run_unmul("serve", speaker, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stderr) == (2, "error: fastapi is not installed: pip install 'unmul[serve]'\n")


def test_without_ray_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "unmul.serve.ray", raising=False)
    with pytest.raises(MissingExtraError, match=r"ray is not installed: pip install 'unmul\[ray\]'"):
        importlib.import_module("unmul.serve.ray")
