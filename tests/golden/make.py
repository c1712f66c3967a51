"""Derive this folder's compact reference vectors from the full ones: python tests/golden/make.py ../shared/golden/tiny

The full model and its gradients are 7.8 MB of float32 that no compressor shrinks. Kept is what decides the answer:
- model: each projection's weight is replaced by another latent weight with the same codes and the same scale, of which
  only three values are distinct. Output and straight-through gradients depend on codes and scale alone. The rest as is.
- vectors: all but the gradients as they are; gradients of gains and bounds whole, those of matrices seen through fixed
  random signs from both sides: every element enters, and |error| of the views estimates |error| of the matrix.
"""

import lzma
import shutil
import sys
from pathlib import Path

import numpy as np

from unmul import ternary
from unmul.checkpoint import read_latent
from unmul.checkpoint.tensorfile import TensorFile, TensorSpec, write_tensors

HERE = Path(__file__).parent


def same_codes_and_scale(weight: np.ndarray) -> np.ndarray:
    """A float32 weight of few distinct values whose codes and scale are those of weight."""
    m = ternary.scale(weight)
    code = ternary.codes(weight, m)
    total = float(m) * code.size
    twin = (code * np.float32(total / np.abs(code).sum())).astype(np.float32)
    first = np.flatnonzero(twin)[0]  # takes up the rounding of all the others
    twin.flat[first] *= (total - np.abs(twin).sum(dtype=np.float64)) / abs(float(twin.flat[first])) + 1
    assert ternary.scale(twin) == m
    assert (ternary.codes(twin, m) == code).all()
    return twin


def views(gradient: np.ndarray) -> dict[str, np.ndarray]:
    """A gradient through random signs from the right [N] and from the left [K]; a small one stays whole."""
    if gradient.size <= 4096:
        return {"": gradient}
    rng = np.random.default_rng(0)
    left, right = (rng.choice([-1.0, 1.0], size) for size in gradient.shape)
    return {".right": gradient.astype(np.float64) @ right, ".left": left @ gradient.astype(np.float64)}


def main(source: Path) -> None:
    """Write config.json, model.safetensors.xz and vectors.safetensors.xz into this folder."""
    config, tensors, _ = read_latent(source)
    model = {
        name: same_codes_and_scale(array) if name in config.ternary_names else array for name, array in tensors.items()
    }
    vectors: dict[str, np.ndarray] = {}
    for name, array in TensorFile(source / "vectors.safetensors").items():
        seen = views(array) if name.startswith("grad.") else {"": array}
        vectors |= {name + suffix: view.astype(array.dtype) for suffix, view in seen.items()}
    shutil.copyfile(source / "config.json", HERE / "config.json")
    compress(HERE / "model.safetensors.xz", model)
    compress(HERE / "vectors.safetensors.xz", vectors)


def compress(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a safetensors file through xz."""
    specs = {name: TensorSpec(array.dtype, array.shape) for name, array in arrays.items()}
    with lzma.open(path, "wb", preset=9) as handle:
        write_tensors(handle, specs, arrays.__getitem__)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
