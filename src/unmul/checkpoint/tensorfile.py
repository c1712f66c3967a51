"""Reading and writing safetensors files, memory-mapped and as a stream.

The safetensors library copies every tensor on its way to NumPy and wants all of them in memory to write; a 2.7B
model must be packed and loaded without either. The format is public: 8 bytes of header length, JSON, data.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from unmul.errors import CheckpointError

__all__ = ["BF16", "Array", "RowReader", "TensorFile", "TensorSpec", "release_pages", "write_tensors"]

Array = npt.NDArray[Any]

BF16 = np.dtype(ml_dtypes.bfloat16)
_DTYPES = {
    "BF16": BF16,
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
    "I8": np.dtype(np.int8),
    "I32": np.dtype(np.int32),
    "U8": np.dtype(np.uint8),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_HEADER_LIMIT = 100_000_000  # the library's own limit
_MOST_DIMENSIONS = 64  # NumPy's limit
_LARGEST = 2**63  # bytes; NumPy counts the sizes of an empty tensor too, but for those that are zero
_ALIGNMENT = 8  # of the data section; within it the format allows no gaps, so wide types come first


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Type and shape of one tensor on disk."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size of the data in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class TensorFile(Mapping[str, Array]):
    """A safetensors file as a mapping from name to a read-only array that views the mapped file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._bytes: Array = np.memmap(path, np.uint8, "r")
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            raise CheckpointError(f"{path} cannot be read ({error})", "copy or download it again") from error
        self._specs, self._offsets, self.metadata = _parse_header(path, self._bytes)

    def spec(self, name: str) -> TensorSpec:
        """Type and shape of a tensor, without touching its data."""
        return self._specs[name]

    def __getitem__(self, name: str) -> Array:
        spec, start = self._specs[name], self._offsets[name]
        return self._bytes[start : start + spec.nbytes].view(spec.dtype).reshape(spec.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)


def release_pages(array: Array) -> None:
    """Give the memory of a mapped tensor's pages back; whoever reads it again reads the file again.

    Arrays that are no view of a mapped file, and systems that cannot do it, are left alone.
    """
    mapped = getattr(array, "_mmap", None)
    if mapped is None or not hasattr(mapped, "madvise"):
        return
    start = _offset(array)
    page = start // mmap.PAGESIZE * mmap.PAGESIZE
    mapped.madvise(mmap.MADV_DONTNEED, page, start + array.nbytes - page)


def _offset(array: Array) -> int:
    return array.ctypes.data - np.frombuffer(array._mmap, np.uint8).ctypes.data  # type: ignore[attr-defined]


class RowReader:
    """Rows of a mapped tensor [N, K], read from its file one by one.

    Read in place the whole tensor would become resident: the system maps up to 2 MiB around each row, and giving that
    back costs more than reading.
    """

    def __init__(self, table: Array) -> None:
        self.width, self._dtype = table.shape[1], table.dtype
        self._start, self._row_bytes = _offset(table), self.width * table.itemsize
        self._file = open(table.filename, "rb", buffering=0)  # type: ignore[attr-defined]  # noqa: SIM115 - kept open

    def __call__(self, rows: Iterable[int]) -> Array:
        """Those rows [T, K]. Raises CheckpointError where the file has been cut since it was mapped."""
        parts = [_read_at(self._file, self._row_bytes, self._start + row * self._row_bytes) for row in rows]
        data = b"".join(parts)
        if len(data) < len(parts) * self._row_bytes:
            raise CheckpointError(f"{self._file.name} has been cut", "copy or download it again")
        return np.frombuffer(data, self._dtype).reshape(-1, self.width)

    def __del__(self) -> None:
        self._file.close()


def _read_at(file: IO[bytes], size: int, offset: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(file.fileno(), size, offset)
    file.seek(offset)  # Windows: whoever reads from several threads must take turns, as the engine does
    return file.read(size)


def write_tensors(
    handle: IO[bytes],
    specs: Mapping[str, TensorSpec],
    make: Callable[[str], Array],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file tensor by tensor; make(name) is called in order and may be forgotten after."""
    specs = dict(sorted(specs.items(), key=lambda item: -item[1].dtype.itemsize))
    handle.write(_header(specs, metadata or {}))
    for name, spec in specs.items():
        array = make(name)
        if TensorSpec(array.dtype, array.shape) != spec:
            raise AssertionError(f"{name}: promised {spec}, got {array.dtype} {array.shape}")
        handle.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _header(specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    start = 0
    for name, spec in specs.items():
        entries[name] = {"dtype": _NAMES[spec.dtype], "shape": spec.shape, "data_offsets": [start, start + spec.nbytes]}
        start += spec.nbytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _parse_header(path: Path, data: Array) -> tuple[dict[str, TensorSpec], dict[str, int], dict[str, str]]:
    damaged = CheckpointError(f"{path} is not a whole safetensors file", "copy or download it again")
    length = int.from_bytes(data[:8].tobytes(), "little")
    if len(data) < 8 or length > min(_HEADER_LIMIT, len(data) - 8):
        raise damaged
    try:
        entries = json.loads(data[8 : 8 + length].tobytes())
        metadata = entries.pop("__metadata__", {})
        specs = {name: _spec(entry) for name, entry in entries.items()}
        ranges = {name: _range(entry) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged from error
    if not isinstance(metadata, dict) or not _fills(specs, ranges, len(data) - 8 - length):
        raise damaged
    return specs, {name: 8 + length + start for name, (start, _) in ranges.items()}, metadata


def _spec(entry: Mapping[str, Any]) -> TensorSpec:
    dtype, shape = _DTYPES[entry["dtype"]], tuple(_count(size) for size in entry["shape"])
    if len(shape) > _MOST_DIMENSIONS or math.prod(size or 1 for size in shape) * dtype.itemsize >= _LARGEST:
        raise ValueError(shape)
    return TensorSpec(dtype, shape)


def _range(entry: Mapping[str, Any]) -> tuple[int, int]:
    start, end = entry["data_offsets"]
    return _count(start), _count(end)


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(value)
    return value


def _fills(specs: Mapping[str, TensorSpec], ranges: Mapping[str, tuple[int, int]], size: int) -> bool:
    """Whether the tensors cover the data section without gap or overlap, as the format demands."""
    end = 0
    for name, (start, stop) in sorted(ranges.items(), key=lambda item: item[1]):
        if start != end or stop - start != specs[name].nbytes:
            return False
        end = stop
    return end == size
