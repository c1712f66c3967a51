"""The engine cross-built for aarch64 and its own tests there, in the Linux that tools/aarch64.py makes."""

import os
import subprocess
from pathlib import Path

import pytest
from speakers import run_unmul

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
PLACE = REPOSITORY / "build" / "aarch64"
PIP = ("-m", "pip", "--disable-pip-version-check")
ENGINE = [f"tests/engine/test_{name}.py" for name in ("c_tokenizer", "choose", "cpu", "kernels", "sampler", "selftest")]
GREEDY = ("run", "-p", "Once upon a time", "-n", "40", "--temp", "0")


def python(*words: str | Path) -> str:
    """What that Python writes, without a word from this one's environment variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    environment["CMAKE_TOOLCHAIN_FILE"] = str(PLACE / "toolchain.cmake")
    command = [PLACE / "bin" / "python", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, installed there."""
    if not (PLACE / "bin" / "python").exists():
        pytest.skip("there is no build/aarch64: python tools/aarch64.py")
    folder = tmp_path_factory.mktemp("wheel")
    python(*PIP, "wheel", "--no-build-isolation", "--no-deps", "-w", folder, REPOSITORY)
    (wheel,) = folder.glob("unmul-*_aarch64.whl")
    python(*PIP, "install", "--force-reinstall", "--no-deps", wheel)
    return wheel


def test_the_embedded_model_writes_the_same_text_there(installed: Path) -> None:
    here = run_unmul(*GREEDY)
    assert here.returncode == 0, here.stderr
    assert python("-m", "unmul", *GREEDY) == here.stdout


def test_the_engines_own_tests_pass_on_every_kernel_of_that_cpu(installed: Path) -> None:
    usable = "from unmul.engine import _native; print(*_native.instruction_sets())"
    assert python("-c", usable).split() == ["scalar", "neon_dotprod", "neon_i8mm"]
    python("-m", "pytest", *ENGINE, "-m", "not slow", "-k", "not million", "-p", "no:cacheprovider")
