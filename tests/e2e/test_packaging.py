"""From a source distribution to text: built in a clean environment, small, and without a network when it runs."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # compiles the engine, installs it into an environment of its own

REPOSITORY = Path(__file__).resolve().parents[2]
MOST_BYTES = 25_000_000
# Ends at the first attempt to reach anything.
WITHOUT_NETWORK = """
import sys
def refuse(event, arguments):
    if event.startswith("socket."):
        raise RuntimeError(event)
sys.addaudithook(refuse)
from unmul.cli.app import main
sys.argv = ["unmul", "run", "-p", "Once upon a time", "-n", "20", "--temp", "0"]
main()
"""


def run(*command: str | Path, **options) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=540, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_source_distribution_becomes_a_small_wheel_that_runs_offline(tmp_path):
    run(sys.executable, "-m", "build", "--sdist", "--outdir", tmp_path, REPOSITORY)
    (source,) = tmp_path.glob("unmul-*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"csrc/unmul.h", "csrc/kernels/amx.cpp", "web/page.html", "LICENSE"} <= names
    assert not [name for name in names if name.startswith(("build/", ".venv/", "tests/golden/"))]
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "-w", tmp_path, source)
    (wheel,) = tmp_path.glob("unmul-*.whl")
    assert wheel.stat().st_size < MOST_BYTES
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if not name.startswith(("unmul/", "unmul-"))]
        for model in ("open-english", "tales-tiny"):
            assert f"unmul/assets/{model}/model.safetensors" in archive.namelist()
    if sys.platform == "linux":
        needs = " ".join(run(sys.executable, "-m", "auditwheel", "show", wheel).split())
        assert re.search(r'consistent with the following platform tag: "manylinux_2_\d+', needs), needs
    run(python, "-m", "pip", "--disable-pip-version-check", "install", wheel)
    text = run(python, "-c", WITHOUT_NETWORK, cwd=tmp_path)
    assert text.startswith(" there lived") or text.startswith("Once upon a time there lived")


def test_wheels_are_asked_for_every_python_that_is_supported():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    oldest = project["project"]["requires-python"].removeprefix(">=3.")
    assert project["tool"]["cibuildwheel"]["build"].split() == [f"cp3{minor}-*" for minor in range(int(oldest), 15)]
