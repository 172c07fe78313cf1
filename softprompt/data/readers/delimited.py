"""CSV and TSV: a header line, then cells that are text as they stand."""

import csv
from collections.abc import Iterator
from pathlib import Path

from softprompt.data.readers.faults import BadRowError
from softprompt.data.readers.opening import open_text
from softprompt.data.readers.records import Options, Record, Table
from softprompt.runtime.errors import InputError

DELIMITERS = ",;\t|"
LONGEST_CELL = 2**31 - 1  # csv's own limit is 128 KiB


def read(path: Path, options: Options) -> Table:
    """Cells that are quoted as spreadsheets do; the delimiter is the given one, or what divides the header most.

    Raises:
        InputError: if it has no header line, or a quote is not closed.
    """
    csv.field_size_limit(LONGEST_CELL)
    delimiter = options.delimiter or _delimiter(path, options)
    header = next(_cells(path, options, delimiter), (0, []))[1]
    if not header:
        raise InputError(f"{path.name} is empty; a header line with the column names is needed")
    rows = sum(1 for _ in _cells(path, options, delimiter)) - 1

    def records(_: list[str]) -> Iterator[Record]:
        lines = _cells(path, options, delimiter)
        next(lines)
        for line, cells in lines:
            if len(cells) == len(header):
                yield dict(zip(header, cells, strict=True))
            else:
                yield BadRowError(
                    "ragged",
                    f"line {line} has {len(cells)} cells, but the header has {len(header)}; quote cells with "
                    f"{delimiter!r} in them",
                )

    return Table(header, rows, records)


def _cells(path: Path, options: Options, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Number of the last line and cells of each row, the header's too; empty lines are passed over."""
    with open_text(path, options.encoding) as file:
        reader = csv.reader(file, strict=True, delimiter=delimiter)
        try:
            for cells in reader:
                if cells:
                    yield reader.line_num, cells
        except csv.Error as error:
            raise InputError(
                f"{path.name}, line {reader.line_num}: not valid CSV, or truncated: {error}; "
                "is a quotation mark not closed, or not doubled within a cell?"
            ) from None


def _delimiter(path: Path, options: Options) -> str:
    if ".tsv" in path.suffixes:
        return "\t"
    with open_text(path, options.encoding) as file:
        header = next((line for line in file if line.strip()), "")
    return max(DELIMITERS, key=lambda delimiter: len(next(csv.reader([header], delimiter=delimiter), [])))
