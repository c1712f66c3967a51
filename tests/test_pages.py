"""The commands of the README and of the pages do what they say, on a small model; CONTRIBUTING.md explains the marks.

Blocks run page by page, each page in a folder of its own.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from servers import serving
from speakers import speaking_latent

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
BLOCK = re.compile(r"^(?:<!-- ([^\n]*) -->\n)?```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARKS = re.compile(r"executed|executed together|executed against a server|not executed: \S.*")
INDENTED = re.compile(r"^    (?:unmul|python|pip|torchrun|cmake|curl) (?!.*\[--).*$", re.MULTILINE)
INTERPRETER = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}


def blocks(page: Path, mark: str) -> list[tuple[str, str]]:
    """Language and code of the blocks of a page with that mark."""
    return [(language, code) for found, language, code in BLOCK.findall(page.read_text("utf-8")) if found == mark]


def pages_with(mark: str) -> list:
    return [pytest.param(page, id=page.stem) for page in PAGES if blocks(page, mark)]


def execute(language: str, code: str, folder: Path) -> None:
    """Run a block as a reader would; it must say something."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [*INTERPRETER[language], code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{code}\n{done.stderr}"
    assert done.stdout.strip()


@pytest.fixture
def folder(speaker: Path, tmp_path: Path) -> Path:
    """What blocks find: see CONTRIBUTING.md."""
    shutil.copytree(speaker, tmp_path / "packed")
    shutil.copytree(speaker.with_name("packed.latent"), tmp_path / "model")
    speaking_latent(tmp_path / "published", dtype="bfloat16", shard_bytes=40_000)
    for name in ("recipes", "examples"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    (tmp_path / "text.txt").write_text("Once upon a time.\n<|endoftext|>\nThe sun rose.\n")
    tales = "\n<|endoftext|>\n".join(
        f"Once upon a time {k} birds sang, one by one, over the little house." for k in range(200)
    )
    (tmp_path / "my.txt").write_text(tales)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with("executed"))
def test_executed_blocks_of_a_page_run(page, folder):
    for language, code in blocks(page, "executed"):
        execute(language, code, folder)


@pytest.mark.parametrize("page", pages_with("executed against a server"))
def test_blocks_of_a_page_get_answers_from_a_server(page, folder):
    if not shutil.which("curl"):
        pytest.skip("needs curl")
    (folder / "packed").rename(folder / "default")
    with serving(folder / "default") as (url, _):
        for language, code in blocks(page, "executed against a server"):
            assert ":8080" in code
            execute(language, code.replace(":8080", f":{url.rpartition(':')[2]}"), folder)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_says_whether_it_is_executed_and_why_not(page):
    text = page.read_text("utf-8")
    assert [code for mark, _, code in BLOCK.findall(text) if not MARKS.fullmatch(mark)] == []
    if page.stem not in ("lab-notes", "CONTRIBUTING"):
        assert INDENTED.findall(text) == [], "commands belong into a marked block"


def test_every_verb_has_a_page_and_every_link_a_target():
    from unmul.cli.app import VERBS

    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
    assert {verb for verb in VERBS if not (REPOSITORY / "docs" / f"{verb}.md").exists()} == set()
