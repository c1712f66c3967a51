"""A text of an engine that draws tokens itself: it writes several ahead, and gives back what the text does not use."""

# L layers, E width of the token mixer, V vocabulary

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from unmul.engine.base import FloatArray, Writer
from unmul.runtime.answer import Answer

__all__ = ["AHEAD", "write_ahead"]

AHEAD = 16  # tokens that the engine may be ahead of the reader


def write_ahead(engine: Writer, state: FloatArray, answer: Answer, logits: FloatArray) -> Iterator[str]:
    """Write an answer from the logits [V] of its prompt; yields a piece, perhaps empty, for each token.

    When the iterator ends or is closed, state [L, E] has read every token of the answer and no other.
    """
    read = state.copy()  # a state that the text has certainly reached, and the answer's tokens after it
    unread: list[int] = []
    drawn: deque[int] = deque()
    try:
        token, piece = answer.extend(logits)
        while True:
            if token is not None:
                unread.append(token)
            yield piece
            if answer.finish is not None:
                return
            if not drawn:
                read, unread = state.copy(), unread[-1:]
                count = min(AHEAD, answer.left)
                written = engine.write(unread, [state], [answer.sampler], count=count, end=answer.end)
                drawn.extend(written[:, 0].tolist())
            token, piece = answer.accept(drawn.popleft())
    finally:
        state[:] = read
        if unread:
            engine.forward(unread, state)
