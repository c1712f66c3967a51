"""The Unicode tables of the C library are those of the installed tokenizers library."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_the_committed_table_is_what_the_tool_writes():
    command = [sys.executable, REPOSITORY / "tools" / "unicode_classes.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == (REPOSITORY / "csrc" / "unicode.inc").read_text()
