"""Rows with fields as documents: JSONL and Parquet files, and tables of Arrow."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from unmul.data.compressed import open_lines, require_file
from unmul.errors import DataError, MissingExtraError

__all__ = ["read_jsonl", "read_parquet", "read_tables"]

ROWS = 1024  # read from a Parquet file at once


def read_jsonl(path: Path, field: str) -> Iterator[str]:
    """The text of every line that is not blank: one JSON object a line."""
    for number, line in enumerate(open_lines(path), 1):
        if line.strip():
            place = f"{path} line {number}"
            row = _object(line.rstrip(), place)
            if field not in row:
                raise _no_field(place, field, row)
            text = _text(row[field], place, field)
            if "\\ud" in line.lower():
                _require_whole(text, place, field)
            yield text


def read_parquet(path: Path, field: str) -> Iterator[str]:
    """The text of every row of a Parquet file; other columns are not read."""
    parquet, damage = _pyarrow()
    try:
        with parquet.ParquetFile(require_file(path)) as file:
            if field not in file.schema_arrow.names:
                raise _no_field(str(path), field, file.schema_arrow.names)
            yield from read_tables(file.iter_batches(ROWS, columns=[field]), field, str(path))
    except (damage, OSError) as error:
        raise DataError(f"{path} is damaged or no Parquet file ({_first_line(error)})", "copy it again") from None


def read_tables(tables: Iterable[Any], field: str, name: str) -> Iterator[str]:
    """The text of every row of some Arrow tables of one source; name is for errors."""
    for row, value in enumerate(_values(tables, field, name), 1):
        yield value if isinstance(value, str) else _text(value, f"{name} row {row}", field)


def _values(tables: Iterable[Any], field: str, name: str) -> Iterator[object]:
    for table in tables:
        if field not in table.schema.names:
            raise _no_field(name, field, table.schema.names)
        try:
            yield from table.column(field).to_pylist()
        except UnicodeDecodeError:
            raise DataError(f"{name}: field {field!r} is not UTF-8", "write it again as UTF-8") from None


def _object(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", error)
        raise DataError(f"{place} is not JSON ({reason})", "mend or delete the line: each holds one object") from None
    if not isinstance(row, dict):
        raise DataError(f"{place} is not a JSON object", 'write one object a line, as in {"text": "Once"}')
    return row


def _text(value: object, place: str, field: str) -> str:
    if value is None:  # a row without text is an empty document
        return ""
    if not isinstance(value, str):
        raise DataError(f"{place}: field {field!r} is {type(value).__name__}, not text", "set data.field to another")
    return value


def _require_whole(text: str, place: str, field: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{place}: field {field!r} has half a surrogate pair", "mend or delete the line") from None


def _no_field(place: str, field: str, there: Collection[str]) -> DataError:
    listed = ", ".join(map(str, there)) or "none"
    return DataError(f"{place} has no field {field!r} (it has {listed})", "set data.field to the one with the text")


def _pyarrow() -> tuple[Any, type[Exception]]:
    """pyarrow.parquet, and what it raises on a damaged file."""
    try:
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise MissingExtraError("pyarrow (for Parquet files)", "train") from None
    return pyarrow.parquet, pyarrow.ArrowException


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
