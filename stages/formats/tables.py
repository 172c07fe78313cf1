"""Tables with an instruction, an optional input and an output column: JSON, JSON lines, CSV and parquet."""

import csv
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.params.data import Columns
from stages.rows import make_row
from stages.workspace.errors import InputError
from stages.workspace.text import is_text, read_text

Record = tuple[str, Any]  # where it stands ("row 3", "line 3"), and a dict of its cells
LONGEST_CELL = 2**31 - 1  # csv's own limit is 128 KiB


def read_json(path: Path, columns: Columns) -> Iterator[dict]:
    """A JSON list of objects. Many data sets on hubs are JSON lines in a .json file: those are read as such."""
    text = read_text(path)
    if not text.lstrip().startswith("["):
        _refuse_one_object(path, text, columns)
        yield from _rows(path, _lines(path, text), columns)
        return
    try:
        records = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{path.name}, line {error.lineno}, column {error.colno}"
        raise InputError(f"{place}: not valid JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond Python's limits
        raise InputError(f"{path.name}: not valid JSON: {error}") from None
    yield from _rows(path, ((f"row {n}", record) for n, record in enumerate(records, start=1)), columns)


def read_jsonl(path: Path, columns: Columns) -> Iterator[dict]:
    """One JSON object a line; empty lines are passed over."""
    yield from _rows(path, _lines(path, read_text(path)), columns)


def read_csv(path: Path, columns: Columns) -> Iterator[dict]:
    """Comma-separated values with a header line, UTF-8, quoted as spreadsheets do. Every cell is text as it stands.

    Not through pandas: it takes a first row with too many cells for a longer table, and cuts all rows to the header.
    """
    csv.field_size_limit(LONGEST_CELL)
    read_text(path)  # says what is not UTF-8
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, None)
            if header is None:
                raise InputError(f"{path.name} is empty; a header line with the column names is needed")
            yield from _rows(path, _csv_records(path, reader, header), columns, header)
        except csv.Error as error:
            raise InputError(f"{path.name}, line {reader.line_num}: not valid CSV: {error}") from None


def read_parquet(path: Path, columns: Columns) -> Iterator[dict]:
    """A parquet file, read a batch at a time; columns that are not asked for are not touched."""
    try:
        with pq.ParquetFile(path) as file:
            header = file.schema_arrow.names
            _check_columns(path.name, columns, header)
            wanted = [name for name in columns.model_dump().values() if name in header]
            batches = (batch.to_pylist() for batch in file.iter_batches(columns=wanted))
            records = (record for batch in batches for record in batch)
            yield from _rows(path, ((f"row {n}", record) for n, record in enumerate(records, start=1)), columns, header)
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        raise InputError(f"{path.name}: not a valid parquet file: {error}") from None


def _refuse_one_object(path: Path, text: str, columns: Columns) -> None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return  # several lines, or a fault that reading them will name
    if isinstance(value, dict) and columns.instruction not in value:
        keys = ", ".join(value) or "none"
        raise InputError(f"{path.name}: an object with the keys {keys}, not a list of rows; give the list itself")


def _lines(path: Path, text: str) -> Iterator[Record]:
    # Not splitlines(): JSON may hold U+2028 and its kin unescaped.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                why = error.msg if isinstance(error, json.JSONDecodeError) else error
                raise InputError(f"{path.name}, line {number}: not valid JSON: {why}") from None


def _csv_records(path: Path, reader: Any, header: list[str]) -> Iterator[Record]:
    for cells in reader:
        if cells and len(cells) != len(header):
            place = f"{path.name}, line {reader.line_num}"
            raise InputError(f"{place}: {len(cells)} cells, but the header has {len(header)}; quote cells with commas")
        if cells:
            yield f"line {reader.line_num}", dict(zip(header, cells, strict=True))


def _rows(
    path: Path, records: Iterable[Record], columns: Columns, header: Iterable[str] | None = None
) -> Iterator[dict]:
    """Rows from `records`; `header` names the columns where they are known before the first record."""
    if header is not None:
        _check_columns(path.name, columns, list(header))
    for where, record in records:
        place = f"{path.name}, {where}"
        if not isinstance(record, dict):
            raise InputError(f"{place}: not an object with the columns {columns.instruction} and {columns.output}")
        if header is None:
            _check_columns(place, columns, list(record))
        instruction, output = _cell(place, record, columns.instruction), _cell(place, record, columns.output)
        yield make_row(instruction, _cell(place, record, columns.input), output, source=path.stem)


def _check_columns(place: str, columns: Columns, found: list[str]) -> None:
    # `input` is optional under its own name only: a column that was named must be there.
    optional = {None, "input"}
    for key, name in columns.model_dump().items():
        if found.count(name) > 1:
            raise InputError(f"{place}: {found.count(name)} columns have the name {name!r} (data.columns.{key})")
        if name not in found and not (key == "input" and name in optional):
            has = ", ".join(found) or "none"
            raise InputError(f"{place}: no column {name!r} (data.columns.{key}); the columns are {has}")


def _cell(place: str, record: dict[str, Any], name: str | None) -> str:
    value = record.get(name) if name is not None else None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""  # a missing cell; prepare counts and drops the row if it needs one
    if not is_text(value):
        raise InputError(
            f"{place}: column {name!r} holds {json.dumps(value, default=str, ensure_ascii=False)[:60]}, not text"
        )
    return value
