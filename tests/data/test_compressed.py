"""data.compressed: the same lines from every kind of archive, damage refused by name."""

import gzip
import importlib
import lzma

import pytest

from unmul.data import compressed
from unmul.data.compressed import fingerprint, open_lines
from unmul.errors import DataError, MissingExtraError

TEXT = "One.\r\nTwo: é.\nThree"


def zstandard():
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    pytest.skip("neither Python 3.14 nor backports.zstd")


def packed(suffix, content):
    if suffix == ".gz":
        return gzip.compress(content)
    if suffix == ".xz":
        return lzma.compress(content)
    return zstandard().compress(content) if suffix == ".zst" else content


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_lines_keep_their_ends_whatever_the_compression(tmp_path, suffix):
    file = tmp_path / f"a.txt{suffix}"
    file.write_bytes(packed(suffix, TEXT.encode()))
    assert list(open_lines(file)) == ["One.\r\n", "Two: é.\n", "Three"]


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_damaged_and_truncated_archives_are_refused_by_name(tmp_path, suffix):
    whole = packed(suffix, bytes(range(256)) * 64)
    middle = bytearray(whole)
    middle[len(whole) // 2] ^= 0xFF
    for content in (b"not an archive", whole[:-6], bytes(middle)):
        (tmp_path / f"a{suffix}").write_bytes(content)
        with pytest.raises(DataError, match=f"a{suffix} is (damaged|not UTF-8)"):
            list(open_lines(tmp_path / f"a{suffix}"))


def test_zstandard_without_its_library_says_what_to_install(tmp_path, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name=name)

    (tmp_path / "a.zst").write_bytes(b"")
    monkeypatch.setattr(compressed.importlib, "import_module", missing)
    with pytest.raises(
        MissingExtraError, match=r"backports\.zstd \(for \.zst files\) is not installed: pip install 'unmul\[train\]'"
    ):
        list(open_lines(tmp_path / "a.zst"))


def test_text_that_is_not_utf8_is_named_with_its_byte_offset(tmp_path):
    (tmp_path / "a").write_bytes(b"fine\nbad \xff byte\n")
    with pytest.raises(DataError, match="a is not UTF-8 at byte 9"):
        list(open_lines(tmp_path / "a"))


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(DataError, match="does not exist"):
            list(open_lines(path))


def test_the_fingerprint_follows_content_and_order_not_names(tmp_path):
    a, b, c = (tmp_path / name for name in "abc")
    a.write_text("one")
    b.write_text("two")
    c.write_text("one")
    assert fingerprint([a]) == fingerprint([c])
    assert len({fingerprint([a, b]), fingerprint([b, a]), fingerprint([a]), fingerprint([])}) == 4
