"""From a packed folder to the GPU's memory: weights at two bits, never expanded; gains as the file has them."""

# L layers, D width, E width of the token mixer, I hidden, N rows, K columns

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from unmul import ternary
from unmul.checkpoint import PackedCheckpoint
from unmul.checkpoint.tensorfile import release_pages
from unmul.config import ModelConfig
from unmul.engine.cuda.device import Device
from unmul.engine.cuda.layout import TILE_BYTES, TILE_COLUMNS, TILE_ROWS, pack_panels, padded
from unmul.engine.cuda.structs import DeviceModel, Matrix
from unmul.engine.naive import forget_bounds
from unmul.errors import CheckpointError, EngineError

__all__ = ["DeviceWeights", "projection_bytes"]

Bits = npt.NDArray[np.uint16]

PACK_THREADS = 256
WORDS = TILE_BYTES // 4
EMBEDDINGS = "model.embeddings.weight"
_REPACK = "the file is sound but its numbers are not: pack the latent checkpoint again"


def projection_bytes(rows: int, columns: int) -> int:
    """Bytes of a projection's tiles."""
    return padded(rows, TILE_ROWS) // TILE_ROWS * (padded(columns, TILE_COLUMNS) // TILE_COLUMNS) * TILE_BYTES


class DeviceWeights:
    """Every weight of a packed folder on a device; `model` is what kernels are given."""

    def __init__(self, device: Device, packed: PackedCheckpoint) -> None:
        self._device, self._packed, self._config = device, packed, packed.config
        self.nbytes = sum(map(self._product_bytes, _products(packed.config)))
        self._pack = device.kernel("pack.cu", "pack", {})
        self._damaged = device.allocate(4)
        self.model = DeviceModel(weights=device.allocate(self.nbytes))
        self._load_projections()
        self.model.gains = self._place(self._gains())
        self.model.bounds = self._place(forget_bounds(packed).astype(np.float32))
        self.model.scales = self._place(self._scales())
        self._load_embeddings()

    def check(self) -> None:
        """A panel of every projection in memory against the file's own codes."""
        random = np.random.default_rng(0)
        address = self.model.weights
        for names in _products(self._config):
            for first, (name, rows) in enumerate(names):
                panel = int(random.integers(0, -(-(rows.stop - rows.start) // TILE_ROWS)))
                self._check_panel(name, rows, panel, address, panel * len(names) + first)
            address += self._product_bytes(names)

    def _check_panel(self, name: str, rows: slice, panel: int, address: int, place: int) -> None:
        columns = self._columns(name)
        start = rows.start + panel * TILE_ROWS
        trits = self._packed.tensors[name + ".weight"][start : min(start + TILE_ROWS, rows.stop)]
        expected = pack_panels(ternary.unpack(trits, columns))
        found = np.empty_like(expected)
        self._device.download(found, address + place * found.nbytes)
        if (found != expected).any():
            raise EngineError(f"self-test: {name} in memory differs from {self._packed.folder}", "report it")

    def _product_bytes(self, names: list[tuple[str, slice]]) -> int:
        return sum(projection_bytes(rows.stop - rows.start, self._columns(name)) for name, rows in names)

    def _load_projections(self) -> None:
        """Products in the order of their use, the panels of one product's projections one beside the other."""
        longest = max(self._packed.tensors[name].nbytes for name in self._config.ternary_names)
        staging = self._device.allocate(longest)
        address = self.model.weights
        for names in _products(self._config):
            for first, (name, rows) in enumerate(names):
                self._load(name, rows, staging, address, first, len(names))
            address += self._product_bytes(names)
        self._device.free(staging)

    def _load(self, name: str, rows: slice, staging: int, address: int, first: int, step: int) -> None:
        trits = self._packed.tensors[name + ".weight"][rows]
        self._device.upload(staging, trits)
        count, columns = rows.stop - rows.start, self._columns(name)
        words = projection_bytes(count, columns) // 4
        matrix = Matrix(staging, address, self._damaged, count, columns, first, step)
        self._pack((-(-words // PACK_THREADS), 1, 1), PACK_THREADS, 0, matrix)
        damaged = np.zeros(1, np.uint32)
        self._device.download(damaged, self._damaged)
        release_pages(self._packed.tensors[name + ".weight"])
        if damaged[0]:
            problem = f"tensor {name}.weight cannot be loaded (a byte is not a group of five trits)"
            raise CheckpointError(f"{self._packed.folder}: {problem}", _REPACK)

    def _columns(self, name: str) -> int:
        return self._config.tensor_shapes[name + ".weight"][1]

    def _gains(self) -> Bits:
        """Gains of every norm in bfloat16 bits, in the order of Gain in shape.cuh, padded."""
        parts = []
        for layer in range(self._config.num_hidden_layers):
            attn, mlp = f"model.layers.{layer}.attn", f"model.layers.{layer}.mlp"
            parts += [f"{attn}_norm", *(f"{attn}.{p}_proj.norm" for p in "ifg"), f"{mlp}_norm", f"{mlp}.gate_proj.norm"]
            parts += [f"{attn}.g_norm", f"{attn}.o_proj.norm", f"{mlp}.down_proj.norm"]
        return np.concatenate([self._gain(f"{name}.weight") for name in [*parts, "model.norm", "lm_head.norm"]])

    def _gain(self, name: str) -> Bits:
        values = self._finite(name)
        return np.pad(values.view(np.uint16), (0, padded(len(values), TILE_COLUMNS) - len(values)))

    def _scales(self) -> npt.NDArray[np.float32]:
        """Scales of the projections in the order of Scale in shape.cuh."""
        names = [
            f"model.layers.{layer}.{part}_proj"
            for layer in range(self._config.num_hidden_layers)
            for part in ("attn.i", "attn.f", "attn.g", "attn.o", "mlp.gate", "mlp.down")
        ]
        return np.array([self._scale(name) for name in [*names, "lm_head"]], np.float32)

    def _scale(self, name: str) -> np.float32:
        scale = self._packed.scale(name + ".weight")
        if not 0 < scale < np.inf:
            raise CheckpointError(f"{self._packed.folder}: scale of {name} is {scale}", _REPACK)
        return scale

    def _load_embeddings(self) -> None:
        self.model.embeddings = self._place(self._packed.tensors[EMBEDDINGS])
        release_pages(self._packed.tensors[EMBEDDINGS])
        if self._packed.embeddings == "int8":
            self.model.embedding_scales = self._place(self._finite(EMBEDDINGS + "_scale"))

    def _finite(self, name: str) -> npt.NDArray[Any]:
        values = self._packed.tensors[name]
        if not np.isfinite(values.astype(np.float32)).all():
            raise CheckpointError(f"{self._packed.folder}: tensor {name} holds NaN or infinity", _REPACK)
        return values

    def _place(self, values: npt.NDArray[Any]) -> int:
        address = self._device.allocate(values.nbytes)
        self._device.upload(address, values)
        return address


def _products(config: ModelConfig) -> list[list[tuple[str, slice]]]:
    """Tensor and rows of the projections of every product: i, f, g; o; gate, up; down, layer by layer; the head."""
    width, mixer, hidden = slice(0, config.hidden_size), slice(0, config.mixer_size), config.ffn_size
    products = []
    for layer in range(config.num_hidden_layers):
        attn, mlp = f"model.layers.{layer}.attn", f"model.layers.{layer}.mlp"
        products.append([(f"{attn}.{p}_proj", mixer) for p in "ifg"])
        products.append([(f"{attn}.o_proj", width)])
        products.append([(f"{mlp}.gate_proj", slice(hidden * half, hidden * (half + 1))) for half in (0, 1)])
        products.append([(f"{mlp}.down_proj", width)])
    return [*products, [("lm_head", slice(0, config.vocab_size))]]
