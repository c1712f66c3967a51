"""Changes that get past the parser: values of a JSON document are swapped, dropped and replaced by awkward ones.

An input is a few parts between zero bytes. Blind changes of bytes rarely leave JSON valid, so that they alone would
test the parser's own refusals and little else.
"""

import json
import random
from collections.abc import Callable
from typing import Any

__all__ = ["SEPARATOR", "join", "mutate", "split"]

SEPARATOR = b"\0"
AWKWARD = [
    None, True, 0, -1, 1, 2, 7, 255, 2**31, 2**32 - 1, 2**63, 2**64, 10**30, 10**400, 0.5, -0.0, 1e-300, 1e308,
    float("inf"), float("nan"), "", "a", "\0", "\ud800", "é" * 9, "a/../b", "x" * 5000, [], [[]], [0],
    [-1, 2], [10**12], [0, 10**30], [1] * 80, {}, {"": None}, {"a": [1]},
]  # fmt: skip

Spot = tuple[Any, Any]  # a list or an object, and one of its keys


def split(data: bytes, parts: int) -> list[bytes]:
    """The parts of an input; the last may hold zero bytes, and missing ones are empty."""
    found = data.split(SEPARATOR, parts - 1)
    return found + [b""] * (parts - len(found))


def join(*parts: bytes) -> bytes:
    """The inverse of split."""
    return SEPARATOR.join(parts)


def mutate(data: bytes, limit: int, seed: int, parts: int, blindly: Callable[[bytes, int], bytes]) -> bytes:
    """An input changed in one part, a long one more often, mostly as JSON; of at most limit bytes."""
    chance = random.Random(seed)
    pieces = split(data, parts)
    (at,) = chance.choices(range(parts), [1 + len(piece) for piece in pieces])
    changed = _changed_document(pieces[at], chance) if chance.random() < 0.7 else None
    pieces[at] = blindly(pieces[at], max(1, limit - len(data) + len(pieces[at]))) if changed is None else changed
    return join(*pieces)[:limit]


def _changed_document(text: bytes, chance: random.Random) -> bytes | None:
    """The document with one value changed, or None if it is not a JSON object or list with something in it."""
    try:
        spots = list(_spots(json.loads(text)))
    except (ValueError, RecursionError):
        return None
    if not spots:
        return None
    root, (container, key) = spots[0][0], chance.choice(spots)
    match chance.randrange(4):
        case 0:
            del container[key]
        case 1 if isinstance(container, dict):
            container[chance.choice(["", "a", "dtype", "unheard_of"])] = container.pop(key)
        case 2:
            other, place = chance.choice(spots)
            container[key] = json.loads(json.dumps(other[place]))
        case _:
            container[key] = chance.choice(AWKWARD)
    return json.dumps(root).encode()


def _spots(document: Any) -> list[Spot]:
    found: list[Spot] = []
    keys = list(document) if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else []
    for key in keys:
        found += [(document, key), *_spots(document[key])]
    return found
