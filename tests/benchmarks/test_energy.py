"""The table and the figure of energy: meters and estimates in columns of their own, nothing made up."""

import json
import runpy
from pathlib import Path

import pytest

TABLE = Path(__file__).parents[2] / "benchmarks" / "energy" / "table.py"
COUNTED, ABOVE, ESTIMATED = 4, 5, 6  # columns


def gpu(joules, above=None, gpu="H"):
    """A report as decode/gpu.py writes it: 1,000 steps a second of four texts."""
    decode = {"batch": 4, "ms": {"ours": {"median": 1.0}}, "joules_per_token": {"ours": joules}}
    if above is not None:
        decode["joules_above_idle"] = {"ours": above}
    return {"machine": {"gpu": gpu}, "models": [{"model": "370m", "decode": [decode]}, {"model": "13b", "decode": []}]}


CPU = {
    "machine": {"cpu": "C"},
    "figures": [{"preset": "370m", "threads": 2, "batch": 1, "decode_tokens_per_s": 9.0, "joules_per_token": None,
                 "joules_reason": "no counter"}],
}  # fmt: skip


REPORTS = (gpu(0.5, 0.3), CPU, gpu("no NVML", gpu="F"), gpu(0.5, gpu="G"), gpu(0.25, 0.1))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The table's rows by model and device, its text, the figure's text."""
    folder = tmp_path_factory.mktemp("energy")
    paths = [folder / f"{number}.json" for number in range(len(REPORTS))]
    for path, document in zip(paths, REPORTS, strict=True):
        path.write_text(json.dumps(document))
    table = runpy.run_path(str(TABLE))
    table["main"]([*map(str, paths), "--out", str(folder), "--figure", str(folder / "figure.svg")])
    (page,) = folder.glob("energy_*.md")
    text = page.read_text("utf-8")
    cells = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {(row[0], row[1]): row for row in cells[2:]}, text, (folder / "figure.svg").read_text("utf-8")


def test_meters_and_estimates_have_columns_of_their_own(made):
    rows, _, figure = made
    assert rows["370m", "H"][2:7] == ["4", "4,000.0", "0.25", "0.1", ""]
    board = rows["2.7b", "kv260"]
    assert (board[COUNTED], board[ABOVE]) == ("", "")
    low, middle, high = map(float, board[ESTIMATED].split(" - "))
    assert 0 < low < middle < high
    assert ("2.7b", "ulx3s-85f") not in rows, "its memory is too small"
    assert ">H, 4<" in figure
    assert ">kv260, 1<" in figure


def test_what_no_meter_counted_is_said_with_its_reason(made):
    rows, text, figure = made
    assert rows["370m", "F"][COUNTED] == rows["370m", "C, threads: 2"][COUNTED] == "not measured"
    assert rows["370m", "G"][COUNTED : ABOVE + 1] == ["0.5", "not measured"]
    for reason in ("- F (2.json): no NVML", "- C, threads: 2 (1.json): no counter", "- G (3.json): idle power was not"):
        assert reason in text
    assert ">F, 4<" not in figure


def test_the_last_report_of_a_device_counts(made):
    rows, _, _ = made
    assert rows["370m", "H"][-1] == "4.json"
