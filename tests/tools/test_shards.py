"""Shards of a recipe, made ahead of training."""

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools" / "shards.py"
RECIPE = '[data]\ntext = "text.txt"\nvalidation = "kept.txt"\nvocab_size = 260\nshards = "shards"\n[train]\nsteps = 1\n'


def test_shards_are_made_once_and_their_key_stays(tmp_path):
    (tmp_path / "text.txt").write_text("abab abab\n<|endoftext|>\nabab\n")
    (tmp_path / "kept.txt").write_text("ab\n")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    command = [sys.executable, TOOL, tmp_path / "recipe.toml"]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2))
    assert f"{tmp_path / 'shards'}: made, key " in first.stdout
    assert first.stdout.splitlines()[1].endswith(" tokens in 2 documents")
    assert second.stdout == first.stdout.replace(": made,", ": there already,")


def test_a_recipe_that_is_not_there_is_one_line(tmp_path):
    done = subprocess.run([sys.executable, TOOL, tmp_path / "no.toml"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"error: recipe {tmp_path / 'no.toml'} does not exist: give a TOML file, as in recipes/\n"
