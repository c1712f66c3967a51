"""A packed checkpoint becomes a program and the weight image that it streams: both written by one pass over the model.

A layer's instructions and what they take from the stream are written together, so they cannot disagree; every layer
gives the same instructions, which therefore stand once, in a loop.
"""

# D width, E width of the token mixer, I hidden, V vocabulary, L layers, N rows, K columns

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from unmul.checkpoint import PackedCheckpoint
from unmul.config import ModelConfig
from unmul.engine.naive import BITLINEAR_EPS, forget_bounds
from unmul.errors import CheckpointError
from unmul.gateware.isa import Operation
from unmul.gateware.parameters import Parameters
from unmul.gateware.scalar import Scalar, constant
from unmul.gateware.tape import STREAMED, Bytes, Tape, vector_stream
from unmul.gateware.units import BOUND_BITS, FRACTION_BITS

__all__ = ["Compiled", "Plan", "compile_model", "fraction_bits", "plan_model"]

Floats = npt.NDArray[np.float32]
Regions = dict[str, tuple[int, int]]

# Scalar registers that hold constants of the model; the one before them is the tape's.
EPS_RESIDUAL, EPS_NORM, EPS_WIDTH, EPS_HIDDEN, ROOT_NORM, ROOT_WIDTH, ROOT_HIDDEN = range(STREAMED + 1, 8)


@dataclass(frozen=True, slots=True)
class Plan:
    """A program with the places of what it reads: all that time and energy depend on. The bytes are made later."""

    parameters: Parameters
    config: ModelConfig
    program: list[Operation]
    residual_bits: int
    regions: Regions
    parts: dict[str, list[Callable[[], Bytes]]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A model on an accelerator: what is written to memory, and what reads it."""

    parameters: Parameters
    config: ModelConfig
    program: list[Operation]
    residual_bits: int
    regions: Regions
    image: Bytes  # whole port words


def plan_model(packed: PackedCheckpoint, parameters: Parameters) -> Plan:
    """The program of a model; `fit.check_fit` says before whether it has room.

    Raises:
        CheckpointError: a tensor holds NaN or infinity.
    """
    model, config = _Model(packed, parameters), packed.config
    layers = [model.layer(layer) for layer in range(config.num_hidden_layers)]
    head, row = model.head(), parameters.vector_beats(config.hidden_size)
    beats = {"body": sum(layer.beats for layer in layers), "head": head.beats}
    words = {name: parameters.words(count) for name, count in beats.items()}
    regions = _lay_out({"embeddings": config.vocab_size * parameters.words(row)} | words)
    program = [
        *model.constants(),
        *_requests(regions, beats, row, parameters.words(row)),
        Operation("load", {"vd": 0, "count": config.hidden_size}),
        Operation("loop", {"count": config.num_hidden_layers}),
        *layers[0].operations,
        Operation("next", {}),
        *(Operation(each.name, each.values, decode=True) for each in head.operations),
        Operation("halt", {}),
    ]
    body = [make for layer in layers for make in layer.parts]
    parts = {"embeddings": [model.embedding_rows], "body": body, "head": head.parts}
    return Plan(parameters, config, program, model.residual_bits, regions, parts)


def compile_model(packed: PackedCheckpoint, parameters: Parameters) -> Compiled:
    """The program of a model and the image that it reads.

    Raises:
        CheckpointError: a tensor holds NaN or infinity.
    """
    plan = plan_model(packed, parameters)
    port = parameters.port_bytes
    image = np.zeros(sum(words for _start, words in plan.regions.values()) * port, np.uint8)
    for name, makers in plan.parts.items():
        at = plan.regions[name][0] * port
        for make in makers:
            part = make()
            image[at : at + part.size] = part
            at += part.size
    return Compiled(parameters, plan.config, plan.program, plan.residual_bits, plan.regions, image)


def fraction_bits(values: Floats) -> int:
    """Fraction bits with which the largest magnitude becomes 2^14 to 2^15 - 1; 0 where all are 0."""
    return 15 - int(np.frexp(np.abs(values).max())[1]) if np.any(values) else 0


class _Model:
    """A packed checkpoint in the accelerator's numbers."""

    def __init__(self, packed: PackedCheckpoint, parameters: Parameters) -> None:
        self._packed, self._parameters = packed, parameters
        config = packed.config
        self._width, self._mixer, self._hidden = config.hidden_size, config.mixer_size, config.ffn_size
        self._bounds = forget_bounds(packed)
        self._embeddings = self._dense("model.embeddings.weight")
        self.residual_bits = fraction_bits(self._embeddings)
        self._norm_bits = fraction_bits(np.concatenate([self._dense(name) for name in _norm_names(config)]))

    def constants(self) -> list[Operation]:
        """`set` for every scalar register that holds a number of the model."""
        width, mixer, hidden, eps = self._width, self._mixer, self._hidden, self._packed.config.rms_norm_eps
        fixed = {
            EPS_RESIDUAL: math.ldexp(width * eps, 2 * self.residual_bits),
            EPS_NORM: math.ldexp(mixer * eps, 2 * FRACTION_BITS),
            EPS_WIDTH: math.ldexp(width * float(BITLINEAR_EPS), 2 * FRACTION_BITS),
            EPS_HIDDEN: math.ldexp(hidden * float(BITLINEAR_EPS), 2 * FRACTION_BITS),
            ROOT_NORM: math.ldexp(math.sqrt(width), FRACTION_BITS - self._norm_bits),
            ROOT_WIDTH: math.sqrt(width) / 127,
            ROOT_HIDDEN: math.sqrt(hidden) / 127,
        }
        return [_set(register, constant(value)) for register, value in fixed.items()]

    def embedding_rows(self) -> Bytes:
        """All embedding rows, each in whole port words."""
        values = np.rint(np.ldexp(self._embeddings, self.residual_bits)).clip(-32767, 32767).astype(np.int16)
        rows = vector_stream(values, self._parameters)
        stride = self._parameters.words(self._parameters.vector_beats(self._width)) * self._parameters.port_bytes
        padded = np.zeros((len(rows), stride), np.uint8)
        padded[:, : rows.shape[1]] = rows
        return padded.reshape(-1)

    def layer(self, layer: int) -> Tape:
        """One layer: v0 is the residual stream, v1 what was normalised, gains wait in v4 to v7."""
        tape, at = Tape(self._parameters), f"model.layers.{layer}."
        self._mix_tokens(tape, at, layer)
        self._mix_channels(tape, at)
        return tape

    def head(self) -> Tape:
        """Final norm and head."""
        tape = Tape(self._parameters)
        tape.load(7, self._norm_gain("model.norm.weight"))
        self._norm_residual(tape)
        gain_bits = self._load_gain(tape, 6, "lm_head")
        self._quantise(tape, 0, 1, 6)
        self._product(tape, "lm_head", FRACTION_BITS - gain_bits, qa=0)
        return tape

    def _mix_tokens(self, tape: Tape, at: str, layer: int) -> None:
        """Everything that a product needs is loaded before it, so that the norm and row units work beside it.

        g_norm's E values are multiplied by the root of D, not of E. They come out sqrt(E / D) too small: so the
        constants of D are right for their codes, too, and o_proj's scale makes up for it.
        """
        mixer = self._mixer
        tape.load(7, self._norm_gain(at + "attn_norm.weight"))
        self._norm_residual(tape)
        i_bits = self._load_gain(tape, 6, at + "attn.i_proj")
        self._quantise(tape, 0, 1, 6)
        f_bits = self._load_gain(tape, 5, at + "attn.f_proj")
        g_bits = self._load_gain(tape, 4, at + "attn.g_proj")
        self._product(tape, at + "attn.i_proj", FRACTION_BITS - i_bits, vd=2, qa=0, add=0)
        self._quantise(tape, 1, 1, 5)
        self._quantise(tape, 2, 1, 4)
        tape.load(5, _fixed(1 - self._bounds[layer], BOUND_BITS))
        self._product(tape, at + "attn.f_proj", FRACTION_BITS - f_bits, vd=3, qa=1, add=0)
        tape.emit("silu", vd=2, va=2, count=mixer)
        tape.load(7, self._norm_gain(at + "attn.g_norm.weight"))
        o_bits = self._load_gain(tape, 6, at + "attn.o_proj")
        self._product(tape, at + "attn.g_proj", FRACTION_BITS - g_bits, vd=1, qa=2, add=0)
        tape.emit("gate", vd=3, va=3, vb=5, count=mixer)
        tape.emit("scan", vd=2, va=2, vb=3, count=mixer, base=0)
        tape.emit("silu", vd=2, va=2, count=mixer)
        tape.emit("norm", vd=1, va=1, vb=7, sa=EPS_NORM, sb=ROOT_NORM, count=mixer)
        tape.emit("mul", vd=1, va=1, vb=2, count=mixer)
        tape.emit("quant", qd=0, va=1, vb=6, sa=EPS_WIDTH, sb=ROOT_WIDTH, count=mixer)
        tape.load(7, self._norm_gain(at + "mlp_norm.weight"))
        bits, lost = self.residual_bits - o_bits, math.sqrt(mixer / self._width)
        self._product(tape, at + "attn.o_proj", bits, times=lost, vd=0, qa=0, add=1)

    def _mix_channels(self, tape: Tape, at: str) -> None:
        hidden = self._hidden
        gate_bits = self._load_gain(tape, 5, at + "mlp.gate_proj")
        self._norm_residual(tape)
        self._quantise(tape, 1, 1, 5)
        down_bits = self._load_gain(tape, 6, at + "mlp.down_proj")
        bits = FRACTION_BITS - gate_bits
        self._product(tape, at + "mlp.gate_proj", bits, range(hidden), vd=2, qa=1, add=0)
        self._product(tape, at + "mlp.gate_proj", bits, range(hidden, 2 * hidden), vd=3, qa=1, add=0)
        tape.emit("silu", vd=2, va=2, count=hidden)
        tape.emit("mul", vd=2, va=2, vb=3, count=hidden)
        tape.emit("quant", qd=2, va=2, vb=6, sa=EPS_HIDDEN, sb=ROOT_HIDDEN, count=hidden)
        self._product(tape, at + "mlp.down_proj", self.residual_bits - down_bits, vd=0, qa=2, add=1)

    def _norm_residual(self, tape: Tape) -> None:
        tape.emit("norm", vd=1, va=0, vb=7, sa=EPS_RESIDUAL, sb=ROOT_NORM, count=self._width)

    def _quantise(self, tape: Tape, qd: int, va: int, vb: int) -> None:
        tape.emit("quant", qd=qd, va=va, vb=vb, sa=EPS_WIDTH, sb=ROOT_WIDTH, count=self._width)

    def _product(
        self, tape: Tape, name: str, bits: int, rows: range | None = None, times: float = 1, **registers: int
    ) -> None:
        """A projection whose result has FRACTION_BITS or residual_bits; `bits` is that less what the gain had."""
        weight = name + ".weight"
        count, columns = self._packed.config.tensor_shapes[weight]
        taken = rows or range(count)
        tape.scale(math.ldexp(times * float(self._packed.scale(weight)), bits))
        part = slice(taken.start, taken.stop)
        kind = "tmatmul" if "vd" in registers else "thead"
        tape.product(kind, (len(taken), columns), lambda: self._packed.codes(weight)[part], **registers)

    def _load_gain(self, tape: Tape, vd: int, name: str) -> int:
        """Load the gain of a projection's own norm with as many fraction bits as it can have; returns how many."""
        gain = self._dense(name + ".norm.weight")
        bits = fraction_bits(gain)
        tape.load(vd, _fixed(gain, bits))
        return bits

    def _norm_gain(self, name: str) -> npt.NDArray[np.int16]:
        return _fixed(self._dense(name), self._norm_bits)

    def _dense(self, name: str) -> Floats:
        values = self._packed.dense(name)
        if not np.isfinite(values).all():
            raise CheckpointError(
                f"{self._packed.folder}: tensor {name} holds NaN or infinity", "pack a sound latent checkpoint again"
            )
        return values


def _norm_names(config: ModelConfig) -> list[str]:
    """Norms that stand apart from a projection: they share one gain format, for one constant holds it."""
    kinds = ("attn_norm", "attn.g_norm", "mlp_norm")
    layers = range(config.num_hidden_layers)
    return [f"model.layers.{layer}.{kind}.weight" for layer in layers for kind in kinds] + ["model.norm.weight"]


def _fixed(values: Floats, bits: int) -> npt.NDArray[np.int16]:
    return np.rint(np.ldexp(values, bits)).clip(-32767, 32767).astype(np.int16)


def _set(register: int, value: Scalar) -> Operation:
    return Operation("set", {"sd": register, "mantissa": int(value.mantissa), "exponent": int(value.exponent)})


def _requests(regions: Regions, beats: dict[str, int], row_beats: int, stride: int) -> list[Operation]:
    """The token's embedding row, the body, and the head where logits are wanted: all queued before anything waits."""
    first = {name: start for name, (start, _words) in regions.items()}
    return [
        Operation("embed", {"address": first["embeddings"], "stride": stride, "row_beats": row_beats}),
        Operation("stream", {"address": first["body"], "length": beats["body"]}),
        Operation("stream", {"address": first["head"], "length": beats["head"]}, decode=True),
    ]


def _lay_out(words: dict[str, int]) -> Regions:
    """First port word and number of words of each part, one after the other."""
    starts = accumulate(words.values(), initial=0)
    return {name: (start, count) for (name, count), start in zip(words.items(), starts, strict=False)}
