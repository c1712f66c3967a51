"""What the machine says of itself."""

import numpy as np

from unmul import machine


def test_peak_memory_counts_what_is_held_and_given_back():
    before = machine.peak_rss_bytes()
    block = np.ones(40_000_000, np.uint8)
    del block
    assert machine.peak_rss_bytes() >= max(before, 40_000_000)


def test_processor_and_memory_are_found_on_linux(tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text("model name\t: Some CPU @ 3 GHz\nflags\t\t: fpu avx2 avx512_vnni\n")
    (tmp_path / "meminfo").write_text("MemTotal:  2000 kB\nMemFree: 5 kB\nMemAvailable:  1000 kB\n")
    monkeypatch.setattr(machine, "PROC", tmp_path)
    assert machine.cpu_name() == "Some CPU @ 3 GHz"
    assert machine.cpu_features() == ["avx2", "avx512_vnni"]
    assert machine.memory_bytes() == (2_048_000, 1_024_000)


def test_a_system_without_proc_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "PROC", tmp_path / "absent")
    assert machine.cpu_name()
    assert machine.cpu_features() == []
    assert machine.memory_bytes() == (0, 0)
    assert machine.peak_rss_bytes() > 1_000_000
