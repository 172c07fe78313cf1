"""Plain text out of files, for what is no row: paragraphs of .txt files, or one column of a table."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from softprompt.data.readers.faults import BadRowError
from softprompt.data.readers.formats import extension, open_table, with_extension
from softprompt.data.readers.layouts import cell_text
from softprompt.data.readers.opening import open_text
from softprompt.runtime.errors import InputError

TEXT = ".txt"
ALLOWED = (TEXT, ".csv", ".tsv", ".json", ".jsonl", ".parquet", ".arrow")


def select_text_files(files: list[Path]) -> list[Path]:
    """The files that hold text.

    Raises:
        InputError: if there are none.
    """
    return with_extension(files, ALLOWED)


def read_texts(path: Path, column: str) -> Iterator[str]:
    """The texts of one file, trimmed; empty ones are passed over.

    Args:
        path: the file.
        column: the column of a table that holds them.

    Raises:
        InputError: if the file is not what its extension says, or has no such column; names the place.
    """
    if extension(path) == TEXT:
        with open_text(path, None) as file:
            texts: Iterable[str] = re.split(r"\n\s*\n", re.sub("\r\n?", "\n", file.read()))
    else:
        texts = _column(path, column)
    yield from filter(None, (text.strip() for text in texts))


def _column(path: Path, column: str) -> Iterator[str]:
    table = open_table(path)
    if column not in table.columns:
        names = ", ".join(map(str, table.columns))
        raise InputError(f"{path.name}: no column {column!r} (general.column); the columns are {names}")
    for number, record in enumerate(table.records([column]), start=1):
        try:
            if isinstance(record, BadRowError):
                raise record
            yield cell_text(record, column, column)
        except BadRowError as fault:
            raise InputError(f"{path.name}, row {number}: {fault.detail}") from None
