"""Same contract as naive.head_loss, in exact integers; compared in tests/ops/test_head_loss.py.

Rows go through the head a few thousand at a time: logits in float32, loss, their gradient, both products of the
backward pass, then the next rows. Only the gradients of the head's input and weights outlive the forward pass.
"""

# M rows (all leading dimensions), K width, V vocabulary

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from unmul.ops.bitlinear import Projection
from unmul.ops.head_loss.naive import IGNORED
from unmul.ops.norm_project.triton import activation_dtype, norm_quantise, norm_quantise_backward
from unmul.ops.product.triton import product
from unmul.ops.product_backward.triton import dequantise
from unmul.ops.ternarise.held import ternary_operand

__all__ = ["head_loss"]

ROWS = 2048  # that go through the head together
NOT_COUNTED = tl.constexpr(IGNORED)


def head_loss(
    x: torch.Tensor,
    delta: torch.Tensor | None,
    gain: torch.Tensor,
    projection: Projection,
    targets: torch.Tensor,
    eps: float,
) -> torch.Tensor:
    """Mean cross-entropy in nats [] of targets [...]; see naive.head_loss."""
    gains, operand = (gain.contiguous(), projection.gain.contiguous()), ternary_operand([projection])
    loss: torch.Tensor = _HeadLoss.apply(
        x, delta, *gains, projection.weight, *operand, targets, eps, activation_dtype(x)
    )
    return loss


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, delta: torch.Tensor | None, outer: torch.Tensor, inner: torch.Tensor,
        weight: torch.Tensor, c_1VK: torch.Tensor, m_1: torch.Tensor, targets: torch.Tensor, eps: float,
        dtype: torch.dtype,
    ) -> torch.Tensor:  # fmt: skip
        rows = x.reshape(-1, x.shape[-1])
        added = None if delta is None else delta.reshape(rows.shape)
        summed_MK, q_1MK, s_1M = norm_quantise(rows, added, outer, [inner], eps, dtype)
        wanted = any(ctx.needs_input_grad)
        loss, grad_n, grad_w = _chunked_loss(q_1MK, s_1M, c_1VK, m_1, targets.reshape(-1).contiguous(), dtype, wanted)
        ctx.save_for_backward(summed_MK, outer, inner, grad_n, grad_w)
        ctx.eps, ctx.shape, ctx.latent = eps, x.shape, weight.is_floating_point()
        ctx.dtypes = x.dtype, None if delta is None else delta.dtype, weight.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        summed_MK, outer, inner, grad_n, grad_w = ctx.saved_tensors
        x_dtype, delta_dtype, weight_dtype = ctx.dtypes
        grad_n = (grad_n * grad).to(summed_MK.dtype)
        grad_x, grad_gains = norm_quantise_backward(None, [grad_n], summed_MK, outer, [inner], ctx.eps)
        grad_x = grad_x.view(ctx.shape)
        return (
            grad_x.to(x_dtype), None if delta_dtype is None else grad_x.to(delta_dtype), grad_gains[1], grad_gains[0],
            (grad_w * grad).to(weight_dtype) if ctx.latent else None, None, None, None, None, None,
        )  # fmt: skip


@torch.library.custom_op("unmul::chunked_loss", mutates_args=())
def _chunked_loss(
    q_1MK: torch.Tensor,
    s_1M: torch.Tensor,
    c_1VK: torch.Tensor,
    m_1: torch.Tensor,
    targets: torch.Tensor,
    dtype: torch.dtype,
    wanted: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The mean loss and, where wanted, its gradients: for the input [M, K] in dtype, for the weights in float32."""
    losses = torch.empty_like(s_1M[0])
    share = 1 / (targets != IGNORED).sum().float()
    grad_n, grad_w = _gradients_like(q_1MK, c_1VK, dtype, wanted)
    wide_VK = dequantise(c_1VK[0], m_1, False, dtype) if wanted else None
    grad_w.zero_()
    for start in range(0, len(targets), ROWS):
        part = slice(start, start + ROWS)
        logits_MV = product(q_1MK[:, part], s_1M[:, part], c_1VK, m_1, torch.float32)[0]
        grad_MV = _cross_entropy(logits_MV, targets[part], share, losses[part], dtype)
        if wide_VK is not None:
            torch.mm(grad_MV, wide_VK, out=grad_n[part])
            _accumulate(grad_w, grad_MV.t(), dequantise(q_1MK[0, part], s_1M[0, part], True, dtype))
    return losses.sum() * share, grad_n, grad_w


@_chunked_loss.register_fake
def _(
    q_1MK: torch.Tensor,
    s_1M: torch.Tensor,
    c_1VK: torch.Tensor,
    m_1: torch.Tensor,
    targets: torch.Tensor,
    dtype: torch.dtype,
    wanted: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return m_1.new_empty(()), *_gradients_like(q_1MK, c_1VK, dtype, wanted)


def _gradients_like(
    q_1MK: torch.Tensor, c_1VK: torch.Tensor, dtype: torch.dtype, wanted: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    shapes = (q_1MK.shape[1:], c_1VK.shape[1:]) if wanted else ((0,), (0,))
    return q_1MK.new_empty(shapes[0], dtype=dtype), q_1MK.new_empty(shapes[1], dtype=torch.float32)


def _accumulate(total: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    """total += a b in float32, whatever a and b are."""
    if a.dtype == total.dtype or not a.is_cuda:
        total.addmm_(a.to(total.dtype), b.to(total.dtype))
    else:
        torch.addmm(total, a, b, out_dtype=total.dtype, out=total)


def _cross_entropy(
    logits_MV: torch.Tensor, targets: torch.Tensor, share: torch.Tensor, losses: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """Write the loss of every row, and return the gradient of the mean loss for the logits, in dtype."""
    grad_MV = torch.empty_like(logits_MV, dtype=dtype)
    rows, vocabulary = logits_MV.shape
    _cross_entropy_kernel[(rows,)](logits_MV, targets, share, losses, grad_MV, vocabulary, 4096, num_warps=8)
    return grad_MV


@triton.jit
def _cross_entropy_kernel(p_logits, p_targets, p_share, p_losses, p_grad, vocabulary, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(p_targets + row)
    counted = target != NOT_COUNTED
    share = tl.where(counted, tl.load(p_share), 0.0)
    p_logits += row * vocabulary
    largest, total = -float("inf"), 0.0
    for start in range(0, vocabulary, BLOCK):
        o_v = start + tl.arange(0, BLOCK)
        logits = tl.load(p_logits + o_v, mask=o_v < vocabulary, other=-float("inf"))
        new = tl.maximum(largest, tl.max(logits))
        total = total * tl.exp(largest - new) + tl.sum(tl.exp(logits - new))
        largest = new
    log_total = largest + tl.log(total)
    own = tl.load(p_logits + tl.where(counted, target, 0))
    tl.store(p_losses + row, tl.where(counted, log_total - own, 0.0))
    for start in range(0, vocabulary, BLOCK):
        o_v = start + tl.arange(0, BLOCK)
        inside = o_v < vocabulary
        chance = tl.exp(tl.load(p_logits + o_v, mask=inside, other=-float("inf")) - log_total)
        grad = (chance - tl.where(o_v == target, 1.0, 0.0)) * share
        tl.store(p_grad + row * vocabulary + o_v, grad.to(p_grad.dtype.element_ty), mask=inside)
