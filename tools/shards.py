"""Make the token shards of a recipe without training: python tools/shards.py recipes/open-english.toml

Training makes them itself when they are not there; made ahead, they can be copied to the machine that trains.
"""

from __future__ import annotations

import sys
from pathlib import Path

from unmul.data import open_shards
from unmul.errors import UnmulError
from unmul.train.recipe import load_recipe


def main(recipe: Path) -> None:
    """Make the shards where data.shards says, and print what they hold."""
    data = load_recipe(recipe).data
    folder = data.shards or Path("runs", recipe.stem, "shards")
    shards, made = open_shards(folder, data.source, lines=True)
    print(f"{folder}: {'made' if made else 'there already'}, key {shards.key}")
    for side, split in (("train", shards.train), ("validation", shards.validation)):
        print(f"{side}: {sum(split.tokens):,} tokens in {sum(split.documents):,} documents")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        main(Path(sys.argv[1]))
    except UnmulError as error:
        sys.exit(f"error: {error}")
