"""Kernels of CPUs that this machine is not, against plain loops, to the bit: csrc/tests/kernels.cpp built for them."""

import shutil
import subprocess
from pathlib import Path

import pytest

from unmul.engine import _native

CSRC = Path(__file__).resolve().parents[2] / "csrc"
FLAGS = ["-std=c++20", "-O2", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra", "-Wno-psabi"]
COMMON = [
    "activations.cpp",
    "arena.cpp",
    "errors.cpp",
    "layout.cpp",
    "pool.cpp",
    "kernels/scalar.cpp",
    "tests/kernels.cpp",
]

pytestmark = pytest.mark.slow


def build(folder: Path, compiler: str, kernels: dict[str, list[str]], *flags: str) -> Path:
    """The test program of csrc, each kernel file with the flags of its instruction set."""
    objects = []
    for name, own in kernels.items():
        objects.append(str(folder / f"{name}.o"))
        command = [compiler, *FLAGS, *own, "-c", str(CSRC / f"kernels/{name}.cpp"), "-o", objects[-1]]
        subprocess.run(command, check=True)
    sources = [str(CSRC / name) for name in COMMON]
    subprocess.run([compiler, *FLAGS, *flags, *sources, *objects, "-o", str(folder / "program")], check=True)
    return folder / "program"


def run(*command: str | Path) -> tuple[int, list[str]]:
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout.split()


def test_kernels_of_arm_under_qemu_equal_plain_loops(tmp_path: Path) -> None:
    compiler, emulator = "aarch64-linux-gnu-g++", "qemu-aarch64"
    if not shutil.which(compiler) or not shutil.which(emulator):
        pytest.skip(f"needs {compiler} and {emulator}")
    dotprod = "-march=armv8.2-a+dotprod"
    kernels = {"neon_dotprod": [dotprod], "neon_i8mm": [f"{dotprod}+i8mm"], "dispatch": []}
    program = build(tmp_path, compiler, kernels, "-static")
    assert run(emulator, "-cpu", "max", program) == (0, ["scalar", "neon_dotprod", "neon_i8mm"])
    assert run(emulator, "-cpu", "neoverse-n1", program) == (0, ["scalar", "neon_dotprod"]), "this CPU has no smmla"
    assert run(emulator, "-cpu", "cortex-a53", program) == (0, ["scalar"]), "this CPU has no sdot"


def test_avx_vnni_under_its_other_encoding_equals_plain_loops(tmp_path: Path) -> None:
    if "avx512vnni" not in _native.instruction_sets() or not shutil.which("g++"):
        pytest.skip("needs g++ and a CPU with AVX-512 VNNI")
    kernels = {"avxvnni": ["-mavx2", "-mavx512vl", "-mavx512vnni", "-mprefer-vector-width=256"]}
    program = build(tmp_path, "g++", kernels, "-DUNMUL_ONLY=kAvxVnni")
    assert run(program) == (0, ["scalar", "avxvnni"])
