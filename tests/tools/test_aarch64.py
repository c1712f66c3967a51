"""The tool that unpacks an aarch64 Linux; what it makes is used by tests/e2e/test_aarch64.py."""

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools" / "aarch64.py"


def test_a_machine_without_the_programs_it_needs_is_told_which(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, TOOL], capture_output=True, text=True, check=False, env={"PATH": str(tmp_path)}
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no apt-get, dpkg-deb, qemu-aarch64, aarch64-linux-gnu-g++; install ")
