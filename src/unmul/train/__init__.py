"""Training: a recipe in, checkpoints out. `run(load_recipe(path))` is the whole of it; see docs/train.md."""

from unmul.train.recipe import Recipe, load_recipe
from unmul.train.run import Result, run

__all__ = ["Recipe", "Result", "load_recipe", "run"]
