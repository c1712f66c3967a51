"""A tiny text and the recipe that trains on it in a second."""

from pathlib import Path

import numpy as np
import pytest

WORDS = ("the", "a", "little", "cat", "dog", "ran", "home", "and", "saw", "red", "moon", "she", "said", "hello")

RECIPE = """
[model]
hidden_size = 32
intermediate_size = 48
num_hidden_layers = 2
[data]
text = "text.txt"
validation = 0.05
vocab_size = 300
[train]
steps = 60
batch = 2
context = 32
lr = 0.01
dtype = "fp32"
validate_every = 20
checkpoint_every = 5
"""


@pytest.fixture(scope="session")
def text() -> str:
    random = np.random.default_rng(0)
    stories = (". ".join(" ".join(random.choice(WORDS, 6).tolist()) for _ in range(8)) for _ in range(150))
    return "\n<|endoftext|>\n".join(stories)


def write_recipe(folder: Path, text: str) -> Path:
    (folder / "text.txt").write_text(text, "utf-8")
    (folder / "tiny.toml").write_text(RECIPE, "utf-8")
    return folder / "tiny.toml"


@pytest.fixture
def recipe_file(tmp_path: Path, text: str) -> Path:
    return write_recipe(tmp_path, text)


@pytest.fixture(scope="module")
def straight_recipe(tmp_path_factory: pytest.TempPathFactory, text: str) -> Path:
    return write_recipe(tmp_path_factory.mktemp("straight"), text)
