"""Same contract as naive.ternarise, to the bit; compared in tests/ops/test_ternarise.py.

Two launches a weight: sums of |W| in float64, each program over its share; then codes, every program summing the shares
in the same order, so that all find the same m. As m is rounded once from float64, the order of summation is not seen.
"""

# G weights of one shape, N rows, K columns

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from unmul.ops.rows import SMALLEST, rint

__all__ = ["ternarise"]

SHARES = 512  # programs that sum, at most; their sums are added as one block
BLOCK = 4096


def ternarise(weights: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes [G, N, K] int8 and scales [G] float32; see naive.ternarise."""
    codes, scales = _ternarise([weight.detach().contiguous() for weight in weights])
    return codes, scales


@torch.library.custom_op("unmul::ternarise", mutates_args=())
def _ternarise(weights: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    first = weights[0]
    codes = first.new_empty((len(weights), *first.shape), dtype=torch.int8)
    scales = first.new_empty(len(weights), dtype=torch.float32)
    sums = first.new_empty(SHARES, dtype=torch.float64)
    size = first.numel()
    blocks = triton.cdiv(size, BLOCK)
    shares = min(blocks, SHARES)
    for weight, code, scale in zip(weights, codes, scales, strict=True):
        _sum_kernel[(shares,)](weight, sums, size, BLOCK, num_warps=8)
        _codes_kernel[(blocks,)](weight, sums, code, scale, size, shares, SHARES, BLOCK, num_warps=8)
    return codes, scales


@_ternarise.register_fake
def _(weights: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    first = weights[0]
    codes = first.new_empty((len(weights), *first.shape), dtype=torch.int8)
    return codes, first.new_empty(len(weights), dtype=torch.float32)


@triton.jit
def _sum_kernel(p_weight, p_sums, size, BLOCK: tl.constexpr):
    share = tl.program_id(0)
    sums = tl.zeros([BLOCK], tl.float64)
    for start in range(share * BLOCK, size, tl.num_programs(0) * BLOCK):
        o = start + tl.arange(0, BLOCK)
        sums += tl.abs(tl.load(p_weight + o, mask=o < size, other=0.0).to(tl.float32)).to(tl.float64)
    tl.store(p_sums + share, tl.sum(sums))


@triton.jit
def _codes_kernel(p_weight, p_sums, p_codes, p_scale, size, shares, SHARES: tl.constexpr, BLOCK: tl.constexpr):
    o_share = tl.arange(0, SHARES)
    mean = tl.sum(tl.load(p_sums + o_share, mask=o_share < shares, other=0.0)) / size
    m = tl.maximum(mean.to(tl.float32), SMALLEST)
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ratio = tl.div_rn(tl.load(p_weight + o, mask=o < size, other=0.0).to(tl.float32), m)
    code = rint(tl.clamp(ratio, -1.0, 1.0))  # clamped first, so that rint is in its range
    tl.store(p_codes + o, code.to(tl.int8), mask=o < size)
    if tl.program_id(0) == 0:
        tl.store(p_scale, m)
