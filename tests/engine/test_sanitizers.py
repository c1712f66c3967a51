"""The C++ engine under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer: csrc/tests built with them."""

import shutil
import subprocess
from pathlib import Path

import pytest

from unmul.engine import _native

REPOSITORY = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


def works(sanitizers: str, folder: Path) -> bool:
    """Whether this compiler and system can run a program with these sanitizers."""
    (folder / "empty.cpp").write_text("int main() {}")
    build = ["c++", f"-fsanitize={sanitizers}", str(folder / "empty.cpp"), "-o", str(folder / "empty")]
    return all(subprocess.run(command, capture_output=True).returncode == 0 for command in (build, [folder / "empty"]))


@pytest.mark.parametrize(
    ("sanitizers", "programs"),
    [("address,undefined", ["kernels_test", "model_test"]), ("thread", ["model_test"])],
    ids=["address-undefined", "thread"],
)
def test_every_table_of_kernels_runs_clean(tmp_path, sanitizers, programs):
    if not shutil.which("cmake") or not shutil.which("c++") or not works(sanitizers, tmp_path):
        pytest.skip(f"needs cmake and a C++ compiler with -fsanitize={sanitizers}")
    flags = f"-g -fsanitize={sanitizers} -fno-sanitize-recover=all"
    configure = ["cmake", "-S", REPOSITORY, "-B", tmp_path, "-DUNMUL_TESTS=ON", "-DCMAKE_BUILD_TYPE=None"]
    subprocess.run([*configure, f"-DCMAKE_CXX_FLAGS={flags}"], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", tmp_path, "--target", *programs], check=True, capture_output=True)
    for program in programs:
        done = subprocess.run([tmp_path / program], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.split() == _native.instruction_sets()
