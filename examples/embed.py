"""The engine inside a Python program: one beginning read once, two endings, and the model's own probabilities.

    python examples/embed.py [FOLDER]

FOLDER is a packed model; the one that comes with unmul when left out.
"""

from __future__ import annotations

import sys

import numpy as np

import unmul
from unmul import SamplingParams


def main() -> None:
    """Write two endings and name the likeliest next words."""
    model = unmul.load(sys.argv[1] if len(sys.argv) > 1 else None)
    beginning = "".join(model.generate("Once upon a time", max_new_tokens=20, sampling=SamplingParams(seed=1)))
    print(f"Once upon a time{beginning} ...")

    remembered = model.state  # a few kilobytes, whatever the length of the text
    for word in (" But", " Then"):
        model.state = remembered
        pieces = model.generate(word, max_new_tokens=20, sampling=SamplingParams(seed=2), resume=True)
        print(f"...{word}{''.join(pieces)}")

    for probability, word in next_words(model, "The old king and his"):
        print(f"{probability:6.1%} {word!r}")


def next_words(model: unmul.Model, text: str, count: int = 3) -> list[tuple[float, str]]:
    """The likeliest tokens after a text, with their probabilities."""
    ids = [model.config.begin_token_id or 0, *model.tokenizer.encode(text, add_special_tokens=False).ids]
    logits = model.logits(ids)[-1].astype(np.float64)
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    best = np.argsort(-shares)[:count]
    return [(float(shares[token]), model.tokenizer.decode([int(token)])) for token in best]


if __name__ == "__main__":
    main()
