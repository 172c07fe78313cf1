"""Tables with an instruction, an optional input and an output column: JSON, JSON lines, CSV and parquet."""

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.params.data import Columns
from stages.rows import make_row
from stages.workspace.errors import InputError

Record = tuple[str, dict[str, Any]]  # where it stands ("row 3", "line 3"), and its cells


def read_json(path: Path, columns: Columns) -> Iterator[dict]:
    """A JSON list of objects. Many data sets on hubs are JSON lines in a .json file: those are read as such."""
    text = _text(path)
    if not text.lstrip().startswith("["):
        yield from _rows(path, _lines(path, text), columns)
        return
    try:
        records = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path.name}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}"
        ) from None
    yield from _rows(path, ((f"row {n}", record) for n, record in enumerate(records, start=1)), columns)


def read_jsonl(path: Path, columns: Columns) -> Iterator[dict]:
    """One JSON object a line; empty lines are passed over."""
    yield from _rows(path, _lines(path, _text(path)), columns)


def read_csv(path: Path, columns: Columns) -> Iterator[dict]:
    """Comma-separated values with a header line, UTF-8, quoted as spreadsheets do. Every cell is text as it stands."""
    try:
        # index_col=False: a row with too many cells is an error, not a silent index column.
        table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig", engine="c")
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not UTF-8 text (byte {error.start})") from None
    except pd.errors.EmptyDataError:
        raise InputError(f"{path.name} is empty; a header line with the column names is needed") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise InputError(f"{path.name}: not valid CSV: {str(error).removeprefix('Error tokenizing data. ')}") from None
    records = zip(*(table[name] for name in table.columns), strict=True) if len(table.columns) else ()
    cells = (dict(zip(table.columns, record, strict=True)) for record in records)
    yield from _rows(path, ((f"row {n}", record) for n, record in enumerate(cells, start=1)), columns, table.columns)


def read_parquet(path: Path, columns: Columns) -> Iterator[dict]:
    """A parquet file, read a batch at a time."""
    try:
        with pq.ParquetFile(path) as file:
            records = (record for batch in file.iter_batches() for record in batch.to_pylist())
            numbered = ((f"row {n}", record) for n, record in enumerate(records, start=1))
            yield from _rows(path, numbered, columns, file.schema_arrow.names)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path.name}: not a valid parquet file: {' '.join(str(error).split())}") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not UTF-8 text (byte {error.start})") from None


def _lines(path: Path, text: str) -> Iterator[Record]:
    # Not splitlines(): JSON may hold U+2028 and its kin unescaped.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{path.name}, line {number}: not valid JSON: {error.msg}") from None


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
        if name not in found and not (key == "input" and name in optional):
            has = ", ".join(found) or "none"
            raise InputError(f"{place}: no column {name!r} (data.columns.{key}); the columns are {has}")


def _cell(place: str, record: dict[str, Any], name: str | None) -> str:
    value = record.get(name) if name is not None else None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""  # a missing cell; prepare counts and drops the row if it needs one
    if not isinstance(value, str):
        raise InputError(
            f"{place}: column {name!r} holds {json.dumps(value, default=str, ensure_ascii=False)[:60]}, not text"
        )
    return value
