"""unmul doctor: what this machine offers, and how to get what is missing."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from unmul import __version__, machine
from unmul.cli.output import emit, megabytes
from unmul.energy import Meter
from unmul.errors import UnmulError

__all__ = ["Check", "checks", "doctor"]

# Optional packages: what each is for, and how to get it.
OPTIONAL = {
    "torch": ("training, and evaluating latent folders", "pip install 'unmul[train]'"),
    "transformers": ("AutoModelForCausalLM on our folders", "pip install 'unmul[train]'"),
    "fastapi": ("unmul serve", "pip install 'unmul[serve]'"),
    "lm_eval": ("task suites of unmul eval", "pip install 'unmul[eval]'"),
    "cuda-bindings": ("--device cuda", "pip install 'unmul[cuda]'"),
    "triton": ("fast training on a GPU", "comes with PyTorch for CUDA on Linux"),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report; the remedy is empty where all is well."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


def doctor(*, json: bool = False) -> None:
    """Check Python, the processor, the engine, the embedded model, optional packages and energy meters.

    Args:
        json: write one JSON document instead of text.
    """
    found = list(checks())
    if json:
        emit({"checks": [asdict(check) for check in found]})
        return
    width = max(len(check.name) for check in found)
    for check in found:
        remedy = f" -> {check.remedy}" if check.remedy else ""
        print(f"{'ok' if check.ok else 'missing':7}  {check.name:{width}}  {check.found}{remedy}")


def checks() -> Iterator[Check]:
    """Every check, in the order of the report."""
    yield Check("python", True, f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield Check("unmul", True, f"{__version__} in {Path(machine.__file__).parent}")
    features = " ".join(machine.cpu_features()) or "no instruction set beyond the baseline"
    yield Check("processor", True, f"{machine.cpu_name()} ({features})")
    total, free = machine.memory_bytes()
    yield Check("memory", True, f"{megabytes(total)}, {megabytes(free)} free" if total else "the system does not say")
    yield _engine()
    yield _model()
    yield _gpu()
    for package, (purpose, remedy) in OPTIONAL.items():
        yield _package(package, purpose, remedy)
    yield _energy("energy", "cpu")
    if shutil.which("nvidia-smi"):
        yield _energy("gpu energy", "cuda")


def _engine() -> Check:
    from unmul.engine.choose import choose_isa, physical_cores

    try:
        return Check("engine", True, f"native {choose_isa()}, {physical_cores()} threads")
    except ImportError as error:
        return Check(
            "engine", False, f"the native engine cannot be loaded ({error})", "pip install --force-reinstall unmul"
        )
    except UnmulError as error:
        return Check("engine", False, error.problem, error.remedy)


def _model() -> Check:
    from unmul.runtime import DEFAULT_MODEL, load

    try:
        model = load()
    except UnmulError as error:
        return Check("model", False, error.problem, error.remedy)
    return Check("model", True, f"{megabytes(model.weight_bytes)} in {DEFAULT_MODEL}, runs on {model.backend}")


def _gpu() -> Check:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Check(
            "gpu", False, "no NVIDIA driver", "not needed: everything but large training runs on the processor"
        )
    query = [tool, "--query-gpu=name", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    if answer.returncode or not answer.stdout.strip():
        return Check("gpu", False, "the NVIDIA driver finds no GPU", "nvidia-smi says more")
    return Check("gpu", True, ", ".join(answer.stdout.split("\n")).strip(", "))


def _package(name: str, purpose: str, remedy: str) -> Check:
    try:
        return Check(name, True, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Check(name, False, f"not installed ({purpose})", remedy)


def _energy(name: str, device: str) -> Check:
    with Meter(device) as meter:
        return Check(name, meter.source is not None, meter.source or f"not measured: {meter.reason}", meter.remedy)
