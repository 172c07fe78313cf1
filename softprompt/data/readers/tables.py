"""Tables in files: JSON, JSON lines, CSV and parquet, as records."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from softprompt.data.readers.layouts import Layout
from softprompt.runtime.errors import InputError
from softprompt.runtime.text import read_text

Record = tuple[str, Layout, dict[str, Any]]  # where it stands ("row 3", "line 3"), which columns it has, its cells
Choose = Callable[[str, Iterable[str]], Layout]  # the layout for a place and the columns found there
LONGEST_CELL = 2**31 - 1  # csv's own limit is 128 KiB


def read_json(path: Path, choose: Choose) -> Iterator[Record]:
    """A JSON list of objects. Many data sets on hubs are JSON lines in a .json file: those are read as such."""
    text = read_text(path)
    if not text.lstrip().startswith("["):
        _refuse_one_object(path, text, choose)
        yield from _objects(path, _lines(path, text), choose)
        return
    try:
        records = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{path.name}, line {error.lineno}, column {error.colno}"
        raise InputError(f"{place}: not valid JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond Python's limits
        raise InputError(f"{path.name}: not valid JSON: {error}") from None
    yield from _objects(path, ((f"row {n}", record) for n, record in enumerate(records, start=1)), choose)


def read_jsonl(path: Path, choose: Choose) -> Iterator[Record]:
    """One JSON object a line; empty lines are passed over."""
    yield from _objects(path, _lines(path, read_text(path)), choose)


def read_csv(path: Path, choose: Choose) -> Iterator[Record]:
    """Comma-separated values with a header line, UTF-8, quoted as spreadsheets do. Every cell is text as it stands.

    Not through pandas: it takes a first row with too many cells for a longer table, and cuts all rows to the header.
    """
    csv.field_size_limit(LONGEST_CELL)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, None)
            if header is None:
                raise InputError(f"{path.name} is empty; a header line with the column names is needed")
            layout = choose(path.name, header)
            for cells in filter(None, reader):
                place = f"line {reader.line_num}"
                if len(cells) != len(header):
                    raise InputError(
                        f"{path.name}, {place}: {len(cells)} cells, but the header has {len(header)}; quote cells with "
                        "commas"
                    )
                yield place, layout, dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise InputError(f"{path.name}, line {reader.line_num}: not valid CSV: {error}") from None
        except UnicodeDecodeError:
            raise InputError(f"{path.name} is not UTF-8 text") from None


def read_parquet(path: Path, choose: Choose) -> Iterator[Record]:
    """A parquet file, read a batch at a time; columns that are not asked for are not touched."""
    try:
        with pq.ParquetFile(path) as file:
            layout = choose(path.name, file.schema_arrow.names)
            batches = (batch.to_pylist() for batch in file.iter_batches(columns=list(layout.names().values())))
            records = (record for batch in batches for record in batch)
            yield from ((f"row {n}", layout, record) for n, record in enumerate(records, start=1))
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        raise InputError(f"{path.name}: not a valid parquet file: {error}") from None


def _refuse_one_object(path: Path, text: str, choose: Choose) -> None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return  # several lines, or a fault that reading them will name
    if isinstance(value, dict):
        try:
            choose(path.name, value)
        except InputError:
            keys = ", ".join(value) or "none"
            raise InputError(
                f"{path.name}: an object with the keys {keys}, not a list of rows; give the list itself"
            ) from None


def _lines(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    # Not splitlines(): JSON may hold U+2028 and its kin unescaped.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                why = error.msg if isinstance(error, json.JSONDecodeError) else error
                raise InputError(f"{path.name}, line {number}: not valid JSON: {why}") from None


def _objects(path: Path, records: Iterable[tuple[str, Any]], choose: Choose) -> Iterator[Record]:
    """Records of JSON, each of which may have keys of its own."""
    layouts: dict[tuple[str, ...], Layout] = {}
    for where, record in records:
        if not isinstance(record, dict):
            raise InputError(f"{path.name}, {where}: not an object with named columns")
        keys = tuple(record)
        if keys not in layouts:
            layouts[keys] = choose(f"{path.name}, {where}", keys)
        yield where, layouts[keys], record
