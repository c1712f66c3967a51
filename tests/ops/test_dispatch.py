"""ops.dispatch: one decision for each operation, which can be forced and asked for."""

import os
import subprocess
import sys

import pytest

OPERATIONS = ["gate_project", "gated_scan", "head_loss", "norm_project", "swiglu_project", "ternarise"]
PROGRAM = """
import unmul.model, unmul.ops.ternarise
from unmul.ops.dispatch import implementations
from unmul.ops.gated_scan import gated_scan
print(*implementations(), *set(implementations().values()), gated_scan.__module__.rpartition(".")[2])
"""


def run(forced: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "UNMUL_OPS": forced}
    return subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("forced", ["naive", "triton"])
def test_every_operation_follows_the_environment(forced: str) -> None:
    if forced == "triton":
        pytest.importorskip("triton")
    assert run(forced).stdout.split() == [*OPERATIONS, forced, forced]


def test_an_unknown_implementation_is_refused_with_a_remedy() -> None:
    found = run("fast")
    assert found.returncode != 0
    assert "UNMUL_OPS is 'fast': set it to naive or triton" in found.stderr
