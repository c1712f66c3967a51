"""The tool that makes the page; the page itself is tested in tests/web."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools" / "web.py"


def test_a_folder_that_holds_no_packed_model_is_one_line_before_anything_is_compiled(tmp_path, latent):
    for folder, problem in ((tmp_path / "nowhere", "is not a folder"), (latent, "is not packed")):
        command = [sys.executable, TOOL, folder, "--out", tmp_path / "page.html"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {folder} {problem}")
        assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_page_has_every_part_that_its_script_asks_for_and_nothing_of_a_server(speaker):
    specification = importlib.util.spec_from_file_location("web", TOOL)
    web = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(web)
    text = web.page(speaker, {"plain": b"", "relaxed": b""})
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'\$\("([^"]+)"\)', text)) <= set(ids)
    assert not {"key", "stops", "energy"} & set(ids)
