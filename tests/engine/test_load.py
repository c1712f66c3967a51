"""Loading: which projections there are, and how little of the file stays in memory."""

import re
from pathlib import Path

import numpy as np
import pytest
from models import TINY, latent_folder

from unmul.checkpoint import PackedCheckpoint, pack
from unmul.checkpoint.tensorfile import release_pages
from unmul.config import ModelConfig
from unmul.engine.bench import write_random
from unmul.engine.cpu import CpuEngine
from unmul.engine.load import Embeddings, projections

STATUS = Path("/proc/self/status")


def resident_file_kib() -> int:
    return int(re.search(r"RssFile:\s+(\d+)", STATUS.read_text())[1])


@pytest.mark.parametrize("source", ["packed", "wide_packed"])
def test_projections_cover_every_ternary_weight_once(source: str, request: pytest.FixtureRequest) -> None:
    opened = PackedCheckpoint.open(request.getfixturevalue(source))
    held = sum(opened.tensors[tensor + ".weight"][rows].size for _, _, tensor, rows in projections(opened))
    assert held == sum(opened.tensors[name].size for name in opened.config.ternary_names)


@pytest.mark.parametrize("source", ["packed", "wide_packed"])
def test_a_token_reads_two_bits_of_every_weight_and_its_padding(source: str, request: pytest.FixtureRequest) -> None:
    opened = PackedCheckpoint.open(request.getfixturevalue(source))
    expected = 0
    for _, _, tensor, rows in projections(opened):
        count, columns = (
            len(opened.tensors[tensor + ".weight"][rows]),
            opened.config.tensor_shapes[tensor + ".weight"][1],
        )
        expected += -(-count // 16) * 16 * (-(-columns // 64) * 64) // 4
    assert CpuEngine(opened).weight_bytes == expected


@pytest.mark.parametrize("kind", ["int8", "bf16"])
def test_embeddings_equal_the_dense_table(tmp_path: Path, kind: str) -> None:
    pack(latent_folder(tmp_path / "latent"), tmp_path / "packed", embeddings=kind)
    opened = PackedCheckpoint.open(tmp_path / "packed")
    ids = np.random.default_rng(0).integers(0, TINY.vocab_size, 100)
    assert (Embeddings(opened)(ids) == opened.dense("model.embeddings.weight")[ids]).all()


@pytest.mark.skipif(not STATUS.exists(), reason="this system does not tell resident pages")
def test_file_pages_leave_memory_after_load_and_prompt(tmp_path: Path) -> None:
    config = ModelConfig(vocab_size=32000, hidden_size=512, num_hidden_layers=8, intermediate_size=1024)
    write_random(tmp_path / "model", config)
    opened = PackedCheckpoint.open(tmp_path / "model")
    before = resident_file_kib()
    engine = CpuEngine(opened)
    engine.forward(np.random.default_rng(0).integers(0, 32000, 320).tolist(), engine.new_state())
    file_kib = (tmp_path / "model" / "model.safetensors").stat().st_size // 1024
    assert file_kib > 20_000
    assert resident_file_kib() - before < file_kib // 10


def test_released_pages_are_read_again(packed: Path) -> None:
    opened = PackedCheckpoint.open(packed)
    tensor = opened.tensors["lm_head.weight"]
    content = tensor.tobytes()
    release_pages(tensor)
    assert tensor.tobytes() == content


def test_releasing_an_ordinary_array_changes_nothing() -> None:
    array = np.arange(10_000)
    release_pages(array)
    assert (array == np.arange(10_000)).all()
