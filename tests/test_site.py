"""The site of docs/ builds without a warning, and would not with a broken link."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

pytest.importorskip("myst_parser", reason="needs unmul[docs]")


def build(repository: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """What `make docs` does."""
    command = [sys.executable, "-m", "sphinx", "-q", "-n", "-W", "--keep-going", "-c", "docs", ".", str(site)]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True)


@pytest.mark.slow
def test_every_page_is_on_the_site_and_no_link_is_broken(tmp_path):
    done = build(REPOSITORY, tmp_path / "site")
    assert (done.returncode, done.stderr) == (0, "")
    for page in (REPOSITORY / "docs").glob("*.md"):
        assert (tmp_path / "site" / "docs" / f"{page.stem}.html").exists()


def test_a_link_that_leads_nowhere_is_an_error(tmp_path):
    (tmp_path / "docs").mkdir()
    shutil.copyfile(REPOSITORY / "docs" / "conf.py", tmp_path / "docs" / "conf.py")
    (tmp_path / "docs" / "index.md").write_text("# Page\n\nSee [there](nowhere.md) and [here](#no-such-heading).\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr
    assert "no-such-heading" in done.stderr
