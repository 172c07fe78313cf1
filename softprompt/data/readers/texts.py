"""Plain text out of files, for what is no row: paragraphs of .txt files, or one column of a table."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from softprompt.data.readers import READERS, with_extension
from softprompt.data.readers.layouts import Layout, cell_text
from softprompt.runtime.errors import InputError
from softprompt.runtime.text import read_text

TEXT = ".txt"
ALLOWED = (TEXT, ".csv", ".json", ".jsonl", ".parquet")


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
    if path.suffix.lower() == TEXT:
        texts: Iterable[str] = re.split(r"\n\s*\n", read_text(path))
    else:
        texts = _column(path, column)
    yield from filter(None, (text.strip() for text in texts))


def _column(path: Path, column: str) -> Iterator[str]:
    def choose(place: str, found: Iterable[str]) -> Layout:
        names = list(found)
        if column not in names:
            raise InputError(f"{place}: no column {column!r} (general.column); the columns are {', '.join(names)}")
        return Layout(output=column)

    for where, _, record in READERS[path.suffix.lower()](path, choose):
        yield cell_text(f"{path.name}, {where}", record, column)
