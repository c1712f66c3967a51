"""Who may know whom: imports only point downwards, and what runs without torch never loads it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import unmul

ROOT = Path(unmul.__file__).parent

# A part may import parts of a lower level, and its own. Every part must be listed.
LEVELS = {
    "errors": 0, "machine": 0, "energy": 0, "files": 1, "ternary": 1, "config": 1, "checkpoint": 2, "ops": 3, "data": 3,
    "model": 4, "engine": 4, "gateware": 5, "evaluate": 6, "train": 7, "hf": 7, "runtime": 7, "plot": 7, "assets": 0,
    "serve": 8, "cli": 9, "__main__": 10, "__init__": 10,
}  # fmt: skip

# Modules without torch, whatever is installed; those of parts that do not exist yet are passed over.
LIGHT = [
    "unmul", "unmul.energy", "unmul.errors", "unmul.files", "unmul.ternary", "unmul.config", "unmul.checkpoint",
    "unmul.engine", "unmul.engine.naive", "unmul.engine.cpu", "unmul.engine.cuda", "unmul.engine.sampler",
    "unmul.runtime", "unmul.runtime.chat", "unmul.evaluate", "unmul.evaluate.bits", "unmul.evaluate.score",
    "unmul.evaluate.tasks", "unmul.evaluate.harness", "unmul.cli.app", "unmul.cli.run", "unmul.cli.eval",
    "unmul.cli.pack", "unmul.cli.info", "unmul.gateware.twin", "unmul.gateware.report", "unmul.gateware.chart",
    "unmul.gateware.host", "unmul.cli.rtl", "unmul.cli.rtl_build", "unmul.cli.doctor", "unmul.cli.plot",
    "unmul.cli.serve", "unmul.plot", "unmul.serve.scheduler", "unmul.serve.app",
]  # fmt: skip


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def part(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return relative.parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    """Parts of unmul that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            names = [f"unmul.{alias.name}" for alias in node.names] if module == "unmul" else [module]
        found |= {name.split(".")[1] for name in names if name.startswith("unmul.")}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    own = part(path)
    assert own in LEVELS, f"{own} has no level: decide who may import it"
    for other in imported_parts(path) & LEVELS.keys() - {own}:
        assert LEVELS[other] < LEVELS[own], f"{own} imports {other}"


def exists(module: str) -> bool:
    path = ROOT.joinpath(*module.split(".")[1:])
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


@pytest.mark.parametrize("module", [module for module in LIGHT if exists(module)])
def test_import_stays_without_torch(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('torch', 'transformers', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_kernels_do_not_know_the_model() -> None:
    for path in (ROOT / "ops").rglob("*.py"):
        assert not imported_parts(path) & {"config", "checkpoint", "model"}


def test_model_stays_short() -> None:
    assert sum(len(path.read_text().splitlines()) for path in (ROOT / "model").glob("[!_]*.py")) <= 350
