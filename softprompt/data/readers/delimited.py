"""CSV and TSV: a header line, then cells that are text as they stand."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from softprompt.data.readers.faults import BadRowError
from softprompt.data.readers.opening import open_text
from softprompt.data.readers.records import Options, Record, Table
from softprompt.runtime.errors import InputError

DELIMITERS = ",;\t|"
Dialect = dict[str, Any]
LONGEST_CELL = 2**31 - 1  # csv's own limit is 128 KiB


def read(path: Path, options: Options) -> Table:
    """Cells that are quoted as spreadsheets do; the delimiter is the given one, or what divides the header most.

    Quotation marks of a TSV are text where they can't be meant so: many such files know no quoting.

    Raises:
        InputError: if it has no header line, or a quote is not closed.
    """
    csv.field_size_limit(LONGEST_CELL)
    dialect = _dialect(path, options)
    header = [name.strip() for name in next(_cells(path, options, dialect), (0, []))[1]]
    if not header:
        raise InputError(f"{path.name} is empty; a header line with the column names is needed")
    rows = sum(1 for _ in _cells(path, options, dialect)) - 1

    def records(_: list[str]) -> Iterator[Record]:
        lines = _cells(path, options, dialect)
        next(lines)
        for line, cells in lines:
            if len(cells) == len(header):
                yield dict(zip(header, cells, strict=True))
            else:
                yield BadRowError(
                    "ragged",
                    f"line {line} has {len(cells)} cells, but the header has {len(header)}; quote cells with "
                    f"{dialect['delimiter']!r} in them",
                )

    return Table(header, rows, records)


def _cells(path: Path, options: Options, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Number of the last line and cells of each row, the header's too; lines of nothing but blanks are passed over."""
    with open_text(path, options.encoding) as file:
        reader = csv.reader(file, strict=True, **dialect)
        try:
            for cells in reader:
                if len(cells) > 1 or "".join(cells).strip():
                    yield reader.line_num, cells
        except csv.Error as error:
            raise InputError(
                f"{path.name}, line {reader.line_num}: not valid CSV, or truncated: {error}; "
                "is a quotation mark not closed, or not doubled within a cell?"
            ) from None


def _dialect(path: Path, options: Options) -> Dialect:
    """Delimiter and quoting, as csv takes them."""
    if ".tsv" in map(str.lower, path.suffixes):
        tabs: Dialect = {"delimiter": options.delimiter or "\t"}
        return tabs if _is_quoted(path, options, tabs) else {**tabs, "quoting": csv.QUOTE_NONE}
    if options.delimiter:
        return {"delimiter": options.delimiter}
    with open_text(path, options.encoding) as file:
        header = next((line for line in file if line.strip()), "")
    return {"delimiter": max(DELIMITERS, key=lambda delimiter: _parts(header, delimiter))}


def _is_quoted(path: Path, options: Options, dialect: Dialect) -> bool:
    """Whether quotation marks can be those around cells: then none has a delimiter and a line's end in it."""
    try:
        rows = (cell for _, cells in _cells(path, options, dialect) for cell in cells)
        return not any(dialect["delimiter"] in cell and "\n" in cell for cell in rows)
    except InputError:
        return False


def _parts(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], strict=True, delimiter=delimiter), []))
    except csv.Error:
        return 0
