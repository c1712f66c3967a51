"""Same contract as naive.product, to the bit before the last rounding; compared in tests/ops/test_product.py.

On Hopper the tiles come through the tensor memory accelerator, and two programs per multiprocessor walk over them;
other GPUs, and shapes whose rows are not a multiple of 16 bytes, take plain pointers.
"""

# G groups, M rows, K columns, N out features

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

__all__ = ["product"]

SIDE = 128  # of every tile; two programs share a multiprocessor, so that one stores while the other multiplies
TILES_IN_A_STRIP = tl.constexpr(8)  # tiles along M that run together, so that they share columns in the cache


@torch.library.custom_op("unmul::product", mutates_args=())
def product(
    q_GMK: torch.Tensor, s_GM: torch.Tensor, c_GNK: torch.Tensor, m_G: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """y = (q C^T) (m/s) [G, M, N] in dtype; see naive.product."""
    groups, rows, _ = q_GMK.shape
    y_GMN = q_GMK.new_empty((groups, rows, c_GNK.shape[1]), dtype=dtype)
    launch = _launch_tma if _suits_tma(q_GMK, y_GMN) else _launch_pointers
    launch(q_GMK, s_GM, c_GNK, m_G, y_GMN)
    return y_GMN


@product.register_fake
def _(q: torch.Tensor, s: torch.Tensor, c: torch.Tensor, m: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return q.new_empty((q.shape[0], q.shape[1], c.shape[1]), dtype=dtype)


def _suits_tma(q_GMK: torch.Tensor, y_GMN: torch.Tensor) -> bool:
    """Whole 16-byte units in every row, and no tile of rows that reaches into the next group."""
    groups, rows, columns = q_GMK.shape
    aligned = columns % 16 == 0 and y_GMN.shape[2] * y_GMN.element_size() % 16 == 0
    separate = groups == 1 or rows % 128 == 0
    return (
        aligned
        and separate
        and rows >= 128
        and q_GMK.is_cuda
        and torch.cuda.get_device_capability(q_GMK.device)[0] == 9
    )


def _launch_tma(
    q_GMK: torch.Tensor, s_GM: torch.Tensor, c_GNK: torch.Tensor, m_G: torch.Tensor, y_GMN: torch.Tensor
) -> None:
    groups, rows, columns = q_GMK.shape
    features = c_GNK.shape[1]
    strip = SIDE // y_GMN.element_size()  # columns stored at once: 16 KiB, so that two programs find room
    programs = min(2 * _multiprocessors(q_GMK), groups * triton.cdiv(rows, SIDE) * triton.cdiv(features, SIDE))
    _tma_kernel[(programs,)](
        TensorDescriptor.from_tensor(q_GMK.view(-1, columns), [SIDE, SIDE]),
        TensorDescriptor.from_tensor(c_GNK.view(-1, columns), [SIDE, SIDE]),
        TensorDescriptor.from_tensor(y_GMN.view(-1, features), [SIDE, strip]),
        s_GM, m_G, groups, rows, features, columns, SIDE, SIDE // strip, num_warps=4, num_stages=3,
    )  # fmt: skip


def _launch_pointers(
    q_GMK: torch.Tensor, s_GM: torch.Tensor, c_GNK: torch.Tensor, m_G: torch.Tensor, y_GMN: torch.Tensor
) -> None:
    groups, rows, columns = q_GMK.shape
    features = c_GNK.shape[1]
    block_m, block_n, block_k = 128 if rows >= 128 else 16, 128, 64
    _pointer_kernel[(groups * triton.cdiv(rows, block_m) * triton.cdiv(features, block_n),)](
        q_GMK, c_GNK, y_GMN, s_GM, m_G, rows, features, columns, block_m, block_n, block_k,
        num_warps=4, num_stages=4,
    )  # fmt: skip


def _multiprocessors(tensor: torch.Tensor) -> int:
    return torch.cuda.get_device_properties(tensor.device).multi_processor_count if tensor.is_cuda else 3


@triton.jit
def _place(tile, rows, features, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Group, first row and first feature of a tile; tiles run in strips of a few rows of tiles."""
    tiles_m, tiles_n = tl.cdiv(rows, BLOCK_M), tl.cdiv(features, BLOCK_N)
    group, tile = tile // (tiles_m * tiles_n), tile % (tiles_m * tiles_n)
    strip = tile // (TILES_IN_A_STRIP * tiles_n)
    height = min(tiles_m - strip * TILES_IN_A_STRIP, TILES_IN_A_STRIP)
    inside = tile % (TILES_IN_A_STRIP * tiles_n)
    return group, (strip * TILES_IN_A_STRIP + inside % height) * BLOCK_M, inside // height * BLOCK_N


@triton.jit
def _tma_kernel(
    q_desc, c_desc, y_desc, p_s, p_m, groups, rows, features, columns, SIDE: tl.constexpr, STRIPS: tl.constexpr
):  # fmt: skip
    tiles = groups * tl.cdiv(rows, SIDE) * tl.cdiv(features, SIDE)
    for tile in tl.range(tl.program_id(0), tiles, tl.num_programs(0), flatten=True):
        group, row, feature = _place(tile, rows, features, SIDE, SIDE)
        sums = tl.zeros([SIDE, SIDE], tl.int32)
        for k in range(0, columns, SIDE):
            q = q_desc.load([group * rows + row, k])
            c = c_desc.load([group * features + feature, k])
            sums = tl.dot(q, c.T, sums, out_dtype=tl.int32)
        o_m = row + tl.arange(0, SIDE)
        s = tl.load(p_s + group * rows + o_m, mask=o_m < rows, other=1.0)
        factor = tl.div_rn(tl.load(p_m + group), s)[:, None]
        left, right = _halves(sums)
        if STRIPS == 2:
            y_desc.store([group * rows + row, feature], (left * factor).to(y_desc.dtype))
            y_desc.store([group * rows + row, feature + SIDE // 2], (right * factor).to(y_desc.dtype))
        else:
            for half in tl.static_range(2):
                outer, inner = _halves(right if half else left)
                column = feature + SIDE // 2 * half
                y_desc.store([group * rows + row, column], (outer * factor).to(y_desc.dtype))
                y_desc.store([group * rows + row, column + SIDE // 4], (inner * factor).to(y_desc.dtype))


@triton.jit
def _halves(tile):
    """The left and the right half of a tile, in float32."""
    pairs = tl.reshape(tile, (tile.shape[0], 2, tile.shape[1] // 2)).to(tl.float32)
    return tl.split(tl.permute(pairs, (0, 2, 1)))


@triton.jit
def _pointer_kernel(
    p_q, p_c, p_y, p_s, p_m, rows, features, columns,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    group, row, feature = _place(tl.program_id(0), rows, features, BLOCK_M, BLOCK_N)
    o_m, o_n, o_k = row + tl.arange(0, BLOCK_M), feature + tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_K)
    in_m, in_n = o_m < rows, o_n < features
    p_q += (group * rows + o_m)[:, None].to(tl.int64) * columns
    p_c += (group * features + o_n)[None, :].to(tl.int64) * columns
    sums = tl.zeros([BLOCK_M, BLOCK_N], tl.int32)
    for k in range(0, columns, BLOCK_K):
        in_k = k + o_k < columns
        q = tl.load(p_q + k + o_k[None, :], mask=in_m[:, None] & in_k[None, :], other=0)
        c = tl.load(p_c + k + o_k[:, None], mask=in_n[None, :] & in_k[:, None], other=0)
        sums = tl.dot(q, c, sums, out_dtype=tl.int32)
    s = tl.load(p_s + group * rows + o_m, mask=in_m, other=1.0)
    y = sums.to(tl.float32) * tl.div_rn(tl.load(p_m + group), s)[:, None]
    p_y += (group * rows + o_m)[:, None].to(tl.int64) * features + o_n[None, :]
    tl.store(p_y, y.to(p_y.dtype.element_ty), mask=in_m[:, None] & in_n[None, :])
