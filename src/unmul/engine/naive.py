"""The packed model in plain NumPy: slow, short, and what the native engines are compared with.

Every line is one line of the model's definition; the integer products are exact.
"""

# B sequences, T tokens, D width, E width of the token mixer, I hidden, V vocabulary

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from unmul import ternary
from unmul.checkpoint import PackedCheckpoint
from unmul.engine.base import FloatArray

__all__ = ["NaiveEngine", "forget_bounds", "rms_norm", "sigmoid", "silu", "softmax"]

BITLINEAR_EPS = np.float32(1e-6)


class NaiveEngine:
    """engine.base.Engine over a packed checkpoint, one matrix product per projection in int32."""

    def __init__(self, packed: PackedCheckpoint) -> None:
        self.config = packed.config
        self.backend = "naive numpy"
        self._packed = packed
        self._eps = np.float32(packed.config.rms_norm_eps)
        self._bounds = forget_bounds(packed)

    def new_state(self) -> FloatArray:
        return np.zeros((self.config.num_hidden_layers, self.config.mixer_size), np.float32)

    def forward(self, ids: Sequence[int], state: FloatArray, *, every: bool = False) -> FloatArray:
        x_TD = self._packed.dense("model.embeddings.weight")[np.asarray(ids)]
        for layer in range(self.config.num_hidden_layers):
            x_TD = self._block(layer, x_TD, state)
        x_TD = self._norm("model.norm", x_TD)
        logits = self.linear("lm_head", x_TD if every else x_TD[-1:])
        return logits if every else logits[0]

    def step(self, ids: Sequence[int], states: Sequence[FloatArray]) -> FloatArray:
        return np.stack([self.forward([token], state) for token, state in zip(ids, states, strict=True)])

    def _block(self, layer: int, x_TD: FloatArray, state: FloatArray) -> FloatArray:
        prefix = f"model.layers.{layer}."
        r_TD = x_TD + self._mix_tokens(layer, prefix, self._norm(prefix + "attn_norm", x_TD), state)
        gate_up = self.linear(prefix + "mlp.gate_proj", self._norm(prefix + "mlp_norm", r_TD))
        gate_TI, up_TI = np.split(gate_up, 2, -1)
        return r_TD + self.linear(prefix + "mlp.down_proj", silu(gate_TI) * up_TI)

    def _mix_tokens(self, layer: int, prefix: str, xn_TD: FloatArray, state: FloatArray) -> FloatArray:
        bound = self._bounds[layer]
        f_TE = bound + (1 - bound) * sigmoid(self.linear(prefix + "attn.f_proj", xn_TD))
        i_TE = silu(self.linear(prefix + "attn.i_proj", xn_TD)) * (1 - f_TE)
        h_TE = np.empty_like(i_TE)
        for t in range(len(xn_TD)):
            state[layer] = f_TE[t] * state[layer] + i_TE[t]
            h_TE[t] = state[layer]
        g_TE = self.linear(prefix + "attn.g_proj", xn_TD)
        normed_TE, gate_TE = (h_TE, g_TE) if self.config.use_state_norm else (g_TE, h_TE)
        return self.linear(prefix + "attn.o_proj", self._norm(prefix + "attn.g_norm", normed_TE) * silu(gate_TE))

    def _norm(self, name: str, x: FloatArray) -> FloatArray:
        return rms_norm(x, self._packed.dense(name + ".weight"), self._eps)

    def linear(self, name: str, x: FloatArray) -> FloatArray:
        """One projection: y = (q C^T) (m/s) of the normalised x."""
        normed = rms_norm(x, self._packed.dense(name + ".norm.weight"), BITLINEAR_EPS)
        q, s = ternary.quantise(normed)
        product = q.astype(np.int32) @ self._packed.codes(name + ".weight").T.astype(np.int32)
        y: FloatArray = product.astype(np.float32) * (self._packed.scale(name + ".weight") / s)
        return y


def forget_bounds(packed: PackedCheckpoint) -> FloatArray:
    """Lower bounds of the forget gates [L, E]: the share of the softmax over layers that lies below each layer.

    In float64 and rounded once, so that csrc/checkpoint.cpp gets the same bits with its own exp.
    """
    shares = softmax(packed.dense("model.lower_bounds").astype(np.float64))
    bounds = np.cumsum(shares, 0) - shares[0] if packed.config.use_lower_bound else np.zeros_like(shares)
    return bounds.astype(np.float32)


def rms_norm(x: FloatArray, gain: FloatArray, eps: np.float32) -> FloatArray:
    """x * rsqrt(mean(x^2) + eps) * gain over the last dimension.

    The mean is summed in float64 and rounded once, so that native engines get the same bits in their order.
    """
    mean: FloatArray = np.square(x, dtype=np.float64).mean(-1, keepdims=True).astype(np.float32)
    return x * (1 / np.sqrt(mean + eps)) * gain


def sigmoid(x: FloatArray) -> FloatArray:
    """1 / (1 + exp(-x)), without overflow."""
    return np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * x))


def silu(x: FloatArray) -> FloatArray:
    """x * sigmoid(x)."""
    return x * sigmoid(x)


def softmax(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Softmax over the first dimension."""
    powers = np.exp(x - x.max(0))
    return powers / powers.sum(0)
