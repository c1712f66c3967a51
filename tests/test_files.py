"""files: what is written appears whole or not at all."""

import errno
import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from unmul import files
from unmul.errors import CheckpointError
from unmul.files import atomic_file, atomic_folder, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    for text in ("first", "zweite, größer"):
        write_text(target, text)
        assert target.read_text("utf-8") == text
    assert names(tmp_path) == ["a.txt"]


def test_file_is_absent_until_the_block_ends(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a") as handle:
        handle.write(b"x")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_bytes() == b"x"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_error_inside_leaves_the_old_content(tmp_path: Path, error: type[BaseException]) -> None:
    write_text(tmp_path / "a", "old")
    (tmp_path / "b").mkdir()
    write_text(tmp_path / "b" / "x", "old")
    with pytest.raises(error):
        fail_inside_file(tmp_path / "a", error)
    with pytest.raises(error):
        fail_inside_folder(tmp_path / "b", error)
    assert names(tmp_path) == ["a", "b"]
    assert ((tmp_path / "a").read_text(), (tmp_path / "b" / "x").read_text()) == ("old", "old")


def fail_inside_file(target: Path, error: type[BaseException]) -> None:
    with atomic_file(target) as handle:
        handle.write(b"new")
        raise error


def fail_inside_folder(target: Path, error: type[BaseException]) -> None:
    with atomic_folder(target) as folder:
        write_text(folder / "x", "new")
        raise error


@pytest.mark.parametrize("exchange", [True, False], ids=["exchanged", "aside"])
def test_folder_replaces_the_old_one_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    if not exchange:
        monkeypatch.setattr(files, "_exchanged", lambda *_: False)
    target = tmp_path / "new" / "model"
    for name in ("x", "y"):
        with atomic_folder(target) as folder:
            write_text(folder / name, name)
        assert names(target) == [name]
    assert names(tmp_path / "new") == ["model"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "model") as folder:
        write_text(folder / "x", "")
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "x").write_text("")
    assert (tmp_path / "model").stat().st_mode == plain.stat().st_mode
    assert (tmp_path / "model" / "x").stat().st_mode == (plain / "x").stat().st_mode


def test_folder_that_cannot_take_its_name_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text_into(tmp_path / "model", "old")
    rename = os.rename

    def refuse(source: Path, target: Path) -> None:
        if ".tmp-" in Path(source).name:
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(files, "_exchanged", lambda *_: False)
    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(CheckpointError, match="Input/output"):
        write_text_into(tmp_path / "model", "new")
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "x").read_text() == "old"


def write_text_into(target: Path, text: str) -> None:
    with atomic_folder(target) as folder:
        write_text(folder / "x", text)


def test_file_in_the_way_of_a_folder_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    with pytest.raises(CheckpointError, match=r"model cannot be written"):
        write_text_into(tmp_path / "model", "new")
    with pytest.raises(CheckpointError, match=r"below cannot be written"):
        write_text_into(tmp_path / "model" / "below", "new")
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model").read_text() == "mine"


def test_full_disk_is_one_line_that_names_the_target(tmp_path: Path) -> None:
    """The size limit of a process stands for a full disk: writing past it fails half-way through a file."""
    code = textwrap.dedent(f"""
        import resource
        from pathlib import Path
        from unmul.errors import CheckpointError
        from unmul.files import atomic_file, atomic_folder
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, {resource.RLIM_INFINITY}))
        root = Path({str(tmp_path)!r})
        for write in (lambda: atomic_file(root / "single"), lambda: atomic_folder(root / "model")):
            try:
                with write() as target:
                    if isinstance(target, Path):
                        with atomic_file(target / "inner") as handle:
                            handle.write(bytes(1_000_000))
                    else:
                        target.write(bytes(1_000_000))
            except CheckpointError as error:
                print(error)
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    single, model = done.stdout.splitlines()
    assert single.startswith(f"{tmp_path / 'single'} cannot be written (File too large)")
    assert model.startswith(f"{tmp_path / 'model'} cannot be written (File too large)")
    assert names(tmp_path) == []
