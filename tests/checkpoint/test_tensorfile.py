"""tensorfile against the safetensors library, both ways, and against damaged files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from unmul.checkpoint.tensorfile import BF16, RowReader, TensorFile, TensorSpec, write_tensors
from unmul.errors import CheckpointError

TORCH = {
    np.dtype(np.float32): torch.float32,
    np.dtype(np.float16): torch.float16,
    BF16: torch.bfloat16,
    np.dtype(np.int8): torch.int8,
    np.dtype(np.uint8): torch.uint8,
    np.dtype(np.int32): torch.int32,
}
SPECS = st.dictionaries(
    st.text(min_size=1, max_size=12).filter(lambda name: name != "__metadata__"),
    st.builds(TensorSpec, st.sampled_from(list(TORCH)), st.lists(st.integers(0, 7), max_size=3).map(tuple)),
    max_size=6,
)


def random_bytes(spec: TensorSpec, seed: int) -> np.ndarray:
    raw = np.random.default_rng(seed).integers(0, 256, spec.nbytes, np.uint8)
    return raw.view(spec.dtype).reshape(spec.shape)


def write(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    specs = {name: TensorSpec(array.dtype, array.shape) for name, array in arrays.items()}
    with path.open("wb") as handle:
        write_tensors(handle, specs, arrays.__getitem__, {"format": "pt"})
    return path


def as_bytes(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()


@given(SPECS)
@settings(max_examples=50, deadline=None)
def test_written_file_is_read_by_the_library_and_by_us(
    tmp_path_factory: pytest.TempPathFactory, specs: dict[str, TensorSpec]
) -> None:
    arrays = {name: random_bytes(spec, seed) for seed, (name, spec) in enumerate(specs.items())}
    path = write(tmp_path_factory.mktemp("file") / "ours", arrays)
    ours, theirs = TensorFile(path), load_file(path)
    assert ours.metadata == {"format": "pt"}
    assert set(ours) == set(theirs) == set(arrays)
    for name, array in arrays.items():
        assert ours.spec(name) == specs[name]
        assert (theirs[name].dtype, tuple(theirs[name].shape)) == (TORCH[array.dtype], array.shape)
        assert as_bytes(ours[name]) == as_bytes(array) == as_bytes(theirs[name].view(-1).view(torch.uint8).numpy())


@given(SPECS)
@settings(max_examples=50, deadline=None)
def test_file_of_the_library_is_read_by_us(
    tmp_path_factory: pytest.TempPathFactory, specs: dict[str, TensorSpec]
) -> None:
    path = tmp_path_factory.mktemp("file") / "theirs"
    arrays = {name: random_bytes(spec, seed) for seed, (name, spec) in enumerate(specs.items())}
    save_file(
        {
            name: torch.from_numpy(array.view(np.uint8) if array.ndim else array.reshape(1).view(np.uint8))
            .view(TORCH[array.dtype])
            .reshape(array.shape)
            for name, array in arrays.items()
        },
        path,
    )
    ours = TensorFile(path)
    assert set(ours) == set(arrays)
    for name, array in arrays.items():
        assert (ours[name].dtype, ours[name].shape) == (array.dtype, array.shape)
        assert as_bytes(ours[name]) == as_bytes(array)


def test_arrays_are_views_of_the_file_and_read_only(tmp_path: Path) -> None:
    file = TensorFile(write(tmp_path / "f", {"x": np.arange(5, dtype=np.float32)}))
    with pytest.raises(ValueError, match="read-only"):
        file["x"][0] = 1
    assert isinstance(file["x"].base, np.memmap)


def test_tensor_other_than_promised_is_refused_before_it_is_written(tmp_path: Path) -> None:
    specs = {"x": TensorSpec(np.dtype(np.float32), (2,))}
    with (tmp_path / "f").open("wb") as handle, pytest.raises(AssertionError, match="promised"):
        write_tensors(handle, specs, lambda name: np.zeros(3, np.float32))


def test_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", {"x": np.ones(9, np.float32), "y": np.ones((), BF16)}).read_bytes()
    for length in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="cut"):
            TensorFile(tmp_path / "cut")
    (tmp_path / "long").write_bytes(whole + b"\0")
    with pytest.raises(CheckpointError, match="whole safetensors"):
        TensorFile(tmp_path / "long")


@pytest.mark.parametrize(
    "header",
    [
        "[]",
        "{",
        '{"x": 1}',
        '{"x": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}',
        '{"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        '{"x": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}}',
        '{"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 3]}}',
        '{"x": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
        '{"x": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}',
        '{"x": {"dtype": "F32", "shape": [1]}}',
        '{"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},'
        ' "y": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
        '{"x": {"dtype": "F32", "shape": [0, 1000000000000000000000], "data_offsets": [0, 0]}}',
        '{"x": {"dtype": "F32", "shape": [' + "1," * 64 + '1], "data_offsets": [0, 4]}}',
        '{"__metadata__": [], "x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
        '{"x": ' + "[" * 100_000,
    ],
    ids=lambda header: header[:60],
)
def test_header_that_lies_is_refused(tmp_path: Path, header: str) -> None:
    text = header.encode()
    (tmp_path / "f").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    with pytest.raises(CheckpointError, match="whole safetensors"):
        TensorFile(tmp_path / "f")


def test_header_is_aligned_json_in_the_documented_form(tmp_path: Path) -> None:
    data = write(tmp_path / "f", {"b": np.zeros(3, np.int8), "x": np.zeros(2, np.float32)}).read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert (8 + length) % 8 == 0
    assert json.loads(data[8 : 8 + length]) == {
        "__metadata__": {"format": "pt"},
        "x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "b": {"dtype": "I8", "shape": [3], "data_offsets": [8, 11]},
    }


@pytest.mark.parametrize("dtype", [np.dtype(np.int8), BF16], ids=str)
def test_rows_are_read_as_the_mapped_tensor_has_them(tmp_path: Path, dtype: np.dtype) -> None:
    table = random_bytes(TensorSpec(dtype, (9, 5)), seed=1)
    path = write(tmp_path / "file", {"before": np.zeros(3, np.float32), "table": table})
    rows = RowReader(TensorFile(path)["table"])
    assert (rows([8, 0, 8]).view(np.uint8) == table[[8, 0, 8]].view(np.uint8)).all()
    assert rows([3]).dtype == dtype


def test_rows_of_a_file_that_was_cut_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "file", {"table": np.zeros((9, 5), np.int8)})
    rows = RowReader(TensorFile(path)["table"])
    with path.open("r+b") as handle:
        handle.truncate(path.stat().st_size - 3)
    assert rows([0]).shape == (1, 5)
    with pytest.raises(CheckpointError, match="has been cut"):
        rows([8])
