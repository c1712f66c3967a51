"""Time of every training kernel beside its floor in bytes or operations; correctness is checked first.

    python benchmarks/ops/kernels.py [--out report.json] [--only scan,product,...]

Shapes are those of a 1.3B model at 8 x 2048 tokens in bf16, the product's also those of its neighbours.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from timing import graphed, interleaved, write_report

from unmul.ops.gate_project import triton as gate
from unmul.ops.gated_scan import naive as naive_scan
from unmul.ops.gated_scan import triton as scan
from unmul.ops.head_loss import triton as head
from unmul.ops.norm_project import triton as norm
from unmul.ops.product import triton as product
from unmul.ops.product_backward import naive as naive_backward
from unmul.ops.product_backward import triton as backward
from unmul.ops.swiglu_project import triton as swiglu
from unmul.ops.ternarise import naive as naive_ternarise
from unmul.ops.ternarise import triton as ternarise

ROWS, WIDTH, HIDDEN, VOCABULARY = 16384, 2048, 5632, 32000
PRODUCTS = [
    (1, 2048, 2048), (3, 2048, 2048), (1, 11264, 2048), (1, 2048, 5632), (1, 32000, 2048), (1, 13824, 2560),
    (1, 2560, 6912), (3, 1024, 1024), (1, 5632, 1024), (1, 1024, 2816),
]  # fmt: skip
REPEATS = 10
Case = tuple[Callable[[], Any], float, str]  # the call, its bytes or operations, and which of the two


def normal(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.randn(shape, device="cuda").to(dtype)


def gains(width: int, count: int) -> list[torch.Tensor]:
    return [1 + 0.1 * normal(width, dtype=torch.float32) for _ in range(count)]


def scans() -> dict[str, Case]:
    f, i, grad = (normal(8, ROWS // 8, WIDTH) for _ in range(3))
    state, bound = torch.zeros(8, WIDTH, device="cuda"), torch.rand(WIDTH, device="cuda")
    h, last = scan._scan(f, i, state, bound, None)
    exact, _ = naive_scan.gated_scan(f[:, :200].double(), i[:, :200].double(), state.double(), bound.double(), None)
    error = float((h[:, :200].double() - exact).norm() / exact.norm())
    assert error < 3e-3, f"gated scan is wrong: {error}"
    size = f.numel() * 2
    return {
        "scan forward": (lambda: scan._scan(f, i, state, bound, None), 3 * size, "bytes"),
        "scan backward": (lambda: scan._scan_backward(grad, last, f, i, h, state, bound, None), 6 * size, "bytes"),
    }


def norms() -> dict[str, Case]:
    x, delta = normal(ROWS, WIDTH), normal(ROWS, WIDTH)
    grads, (outer, *inner) = [normal(ROWS, WIDTH) for _ in range(4)], gains(WIDTH, 4)
    size = x.numel()
    cases: dict[str, Case] = {}
    for count in (3, 1):
        few = inner[:count]
        cases[f"norm forward x{count}"] = (
            lambda few=few: norm.norm_quantise(x, delta, outer, few, 1e-6, x.dtype), (6 + count) * size, "bytes"
        )  # fmt: skip
        cases[f"norm backward x{count}"] = (
            lambda few=few, count=count: norm.norm_quantise_backward(grads[3], grads[:count], x, outer, few, 1e-6),
            (6 + 2 * count) * size, "bytes",
        )  # fmt: skip
    return cases


def exits() -> dict[str, Case]:
    g, h, grad, (outer, inner) = normal(ROWS, WIDTH), normal(ROWS, WIDTH), normal(ROWS, WIDTH), gains(WIDTH, 2)
    u, grad_z, (gain,) = normal(ROWS, 2 * HIDDEN), normal(ROWS, HIDDEN), gains(HIDDEN, 1)
    return {
        "gate forward": (lambda: gate._gate_quantise(g, h, outer, inner, 1e-6), 5 * g.numel(), "bytes"),
        "gate backward": (
            lambda: gate._gate_quantise_backward(grad, g, h, outer, inner, 1e-6), 10 * g.numel(), "bytes"
        ),
        "swiglu forward": (lambda: swiglu._swiglu_quantise(u, gain), 5 * grad_z.numel(), "bytes"),
        "swiglu backward": (lambda: swiglu._swiglu_quantise_backward(grad_z, u, gain), 10 * grad_z.numel(), "bytes"),
    }  # fmt: skip


def weights() -> dict[str, Case]:
    wide = [0.02 * normal(2 * HIDDEN, WIDTH, dtype=torch.float32)]
    three = [0.02 * normal(WIDTH, WIDTH, dtype=torch.float32) for _ in range(3)]
    for tensors in (wide, three):
        for found, expected in zip(ternarise.ternarise(tensors), naive_ternarise.ternarise(tensors), strict=True):
            assert torch.equal(found, expected), "ternarise is wrong"
    codes, scales = ternarise.ternarise(wide)
    q = torch.randint(-127, 128, (1, ROWS, HIDDEN), device="cuda", dtype=torch.int8)
    s = torch.rand(1, ROWS, device="cuda") + 1
    return {
        "ternarise 11264x2048": (lambda: ternarise.ternarise(wide), 9 * wide[0].numel(), "bytes"),
        "ternarise 3x2048x2048": (lambda: ternarise.ternarise(three), 27 * three[0].numel(), "bytes"),
        "widen weights": (
            lambda: backward.dequantise(codes, scales, False, torch.bfloat16),
            3 * codes.numel(),
            "bytes",
        ),
        "widen activations": (lambda: backward.dequantise(q, s, True, torch.bfloat16), 3 * q.numel(), "bytes"),
    }


def gradients() -> dict[str, Case]:
    """What the 8-bit backward pass adds: rounding, turning, and the product that sums over tokens."""
    cases: dict[str, Case] = {}
    for groups, features, columns in ((3, WIDTH, WIDTH), (1, 2 * HIDDEN, WIDTH), (1, WIDTH, HIDDEN)):
        grads, s = [1e-5 * normal(ROWS, features) for _ in range(groups)], torch.rand(groups, ROWS, device="cuda") + 1
        found, expected = backward.quantise_gradients(grads, s), naive_backward.quantise_gradients(grads, s)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True)), "rounding is wrong"
        q = torch.randint(-127, 128, (groups, ROWS, columns), device="cuda", dtype=torch.int8)
        turned, ones = backward.transpose(q), torch.ones(groups, device="cuda")
        assert torch.equal(turned, q.mT), "turning is wrong"
        name, work = f"{groups}x{features}x{columns}", 2 * groups * ROWS * features * columns
        cases[f"gradient to 8 bits {groups}x{features}"] = (
            lambda grads=grads, s=s: backward.quantise_gradients(grads, s), 6 * groups * ROWS * features, "bytes"
        )  # fmt: skip
        cases[f"turn activations {groups}x{columns}"] = (lambda q=q: backward.transpose(q), 2 * q.numel(), "bytes")
        cases[f"weight gradient {name}"] = (
            lambda found=found, turned=turned, ones=ones: product.product(*found[2:], turned, ones, torch.float32),
            work, "operations",
        )  # fmt: skip
    return cases


def products() -> dict[str, Case]:
    cases: dict[str, Case] = {}
    for groups, features, columns in PRODUCTS:
        q = torch.randint(-127, 128, (groups, ROWS, columns), device="cuda", dtype=torch.int8)
        c = torch.randint(-1, 2, (groups, features, columns), device="cuda", dtype=torch.int8)
        s, m = torch.rand(groups, ROWS, device="cuda") + 1, torch.rand(groups, device="cuda")
        y = product.product(q, s, c, m, torch.bfloat16)
        exact = (q[-1, :128].double() @ c[-1].double().T) * (m[-1] / s[-1, :128]).double()[:, None]
        assert torch.equal(y[-1, :128], exact.float().bfloat16()), "product is wrong"
        name = f"product {groups}x{features}x{columns}"
        work = 2 * groups * ROWS * features * columns
        cases[name] = (lambda q=q, s=s, c=c, m=m: product.product(q, s, c, m, torch.bfloat16), work, "operations")
        a, b = normal(groups * ROWS, columns), normal(features, columns)
        cases[f"{name}, bf16 cuBLAS"] = (lambda a=a, b=b: a @ b.T, work, "operations")
    return cases


def heads() -> dict[str, Case]:
    logits = 3 * normal(head.ROWS, VOCABULARY, dtype=torch.float32)
    targets = torch.randint(0, VOCABULARY, (head.ROWS,), device="cuda")
    share, losses = torch.tensor(1 / head.ROWS, device="cuda"), torch.empty(head.ROWS, device="cuda")
    head._cross_entropy(logits, targets, share, losses, torch.bfloat16)
    assert torch.allclose(losses, torch.nn.functional.cross_entropy(logits, targets, reduction="none"), rtol=1e-4)
    call = lambda: head._cross_entropy(logits, targets, share, losses, torch.bfloat16)  # noqa: E731
    return {"cross-entropy, 4096 rows": (call, 6 * logits.numel(), "bytes")}


GROUPS = {
    "scan": scans, "norm": norms, "exit": exits, "weights": weights, "gradient": gradients, "product": products,
    "head": heads,
}  # fmt: skip


def measure(cases: dict[str, Case]) -> list[dict[str, Any]]:
    """Time every case inside a CUDA graph, all in turn, and print a line for each."""
    timings = interleaved({name: graphed(call, REPEATS) for name, (call, _, _) in cases.items()}, 15, REPEATS)
    rows = []
    for name, (_, work, unit) in cases.items():
        rate = work / timings[name]["median_ms"] * 1e3 / 1e12
        print(f"{name:44s} {timings[name]['median_ms']:8.4f} ms   {rate:8.2f} T{unit}/s", flush=True)
        rows.append({"name": name, **timings[name], unit: work, "tera_per_s": rate})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default=",".join(GROUPS))
    options = parser.parse_args()
    torch.manual_seed(0)
    rows = [row for group in options.only.split(",") for row in measure(GROUPS[group]())]
    if options.out:
        write_report(options.out, {"rows": rows})


if __name__ == "__main__":
    main()
