"""The commands of the README and of the pages of the verbs do what they say, on a small model.

Blocks marked <!-- executed --> run page by page, each page in a folder of its own that holds `model` (latent), `packed`
and `text.txt`.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
BLOCK = re.compile(r"^<!-- executed -->\n```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INTERPRETER = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}


@pytest.mark.parametrize(
    "page", [page for page in PAGES if BLOCK.search(page.read_text("utf-8"))], ids=lambda page: page.stem
)
def test_executed_blocks_of_a_page_run(page, speaker, tmp_path):
    shutil.copytree(speaker, tmp_path / "packed")
    shutil.copytree(speaker.with_name("packed.latent"), tmp_path / "model")
    (tmp_path / "text.txt").write_text("Once upon a time.\n<|endoftext|>\nThe sun rose.\n")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for language, code in BLOCK.findall(page.read_text("utf-8")):
        command = [*INTERPRETER[language], code]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{code}\n{done.stderr}"
        assert done.stdout.strip()


def test_every_verb_has_a_page_and_every_link_a_target():
    from unmul.cli.app import VERBS

    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
    assert {verb for verb in VERBS if not (REPOSITORY / "docs" / f"{verb}.md").exists()} == set()
