"""The table of the accelerator's approximations in the documentation is what trying every input gives."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_documented_errors_are_the_worst_of_all_inputs():
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "unit_errors.py"], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 6
    page = (ROOT / "docs" / "hardware.md").read_text("utf-8")
    for line in lines:
        assert line in page
