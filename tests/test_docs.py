"""The examples of docs/transformers.md run, in order, in a folder that holds a checkpoint named "model"."""

import re
from pathlib import Path

import pytest
from models import latent_folder

from unmul.checkpoint import is_packed

PAGE = Path(__file__).parent.parent / "docs" / "transformers.md"


def test_transformers_page_runs_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"<!-- executed together -->\n```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) >= 5
    latent_folder(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/transformers.md", "exec"), names)
    assert names["ids"].shape == names["beams"].shape == (2, 12)
    assert names["cache"].get_seq_length() == 4
    assert is_packed(tmp_path / "packed")
