"""The accelerator as an engine: the program image on the weight image in NumPy, to the bit."""

# B sequences, T tokens, V vocabulary

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unmul.engine.base import FloatArray
from unmul.gateware.compile import Compiled
from unmul.gateware.execute import Memory, Run, control_flow
from unmul.gateware.isa import read_program, write_program
from unmul.gateware.scalar import Ints
from unmul.gateware.units import FRACTION_BITS

__all__ = ["Twin"]

CHUNK = 512  # tokens at once: bounds memory, changes no result


class Twin:
    """engine.base.Engine that runs a compiled model; its states hold the accelerator's int32 values, bit for bit.

    saturations counts elements that did not fit their register since the twin was made: 0 for a sound model.
    """

    def __init__(self, compiled: Compiled) -> None:
        self.config = compiled.config
        self.backend = f"accelerator's twin, {compiled.parameters.lanes} lanes"
        self.parameters = compiled.parameters
        self.saturations = 0
        self._program = read_program(write_program(compiled.program))
        self._memory = Memory(compiled.image, compiled.parameters)

    def new_state(self) -> FloatArray:
        return np.zeros((self.config.num_hidden_layers, self.config.mixer_size), np.float32)

    def forward(self, ids: Sequence[int], state: FloatArray, *, every: bool = False) -> FloatArray:
        chunks = [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]
        if not every:  # the head for the last token alone
            chunks = [*(part for part in (*chunks[:-1], chunks[-1][:-1]) if part), ids[-1:]]
        found = [self._advance([part], [state], prefill=not every and part is not chunks[-1]) for part in chunks]
        return np.concatenate(found, 1)[0] if every else found[-1][0, -1]

    def step(self, ids: Sequence[int], states: Sequence[FloatArray]) -> FloatArray:
        return self._advance([[token] for token in ids], states, prefill=False)[:, 0]

    def integers(self, run: Run, *, prefill: bool) -> Ints:
        """Execute the program in a run; logits [B, T, V] as the accelerator has them, or [B, T, 0]."""
        for operation, counter in control_flow(self._program, prefill=prefill):
            run.execute(operation, counter)
        run.finish()
        return run.logits if run.logits is not None else np.zeros((*run.tokens.shape, 0), np.int64)

    def _advance(self, ids: Sequence[Sequence[int]], states: Sequence[FloatArray], *, prefill: bool) -> FloatArray:
        bits = [state.view(np.int32) for state in states]
        held = np.stack([each.reshape(-1) for each in bits]).astype(np.int64)
        run = Run(self._memory, np.asarray(ids, np.int64), held)
        logits = self.integers(run, prefill=prefill)
        self.saturations += run.saturations
        for each, row in zip(bits, held, strict=True):
            each[...] = row.reshape(each.shape)
        floats: FloatArray = (logits / (1 << FRACTION_BITS)).astype(np.float32)
        return floats
