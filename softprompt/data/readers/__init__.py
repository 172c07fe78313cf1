"""Rows out of files, by extension: a reader is one function `read(path, choose) -> records` and a line in `READERS`."""

from collections.abc import Collection, Iterator
from pathlib import Path

from softprompt.config.data import Data
from softprompt.data.readers import chatterbot, tables
from softprompt.data.readers.layouts import layout_of
from softprompt.data.readers.split_syntax import SPLIT, slices
from softprompt.runtime.errors import InputError
from softprompt.runtime.progress import tqdm

READERS = {
    ".json": tables.read_json,
    ".jsonl": tables.read_jsonl,
    ".csv": tables.read_csv,
    ".parquet": tables.read_parquet,
    ".yml": chatterbot.read,
    ".yaml": chatterbot.read,
}


def select_data_files(files: list[Path]) -> list[Path]:
    """The files whose extension has a reader; a file that was named outright must have one."""
    return with_extension(files, READERS)


def with_extension(files: list[Path], allowed: Collection[str]) -> list[Path]:
    """The files whose extension is one of the allowed.

    Raises:
        InputError: if there are none.
    """
    readable = [path for path in files if path.suffix.lower() in allowed]
    if not readable:
        found = ", ".join(sorted({path.suffix or path.name for path in files})) or "an empty folder"
        raise InputError(f"found {found}; allowed extensions: {', '.join(allowed)}")
    return readable


def read_files(files: list[Path], base: Path, data: Data) -> tuple[list[dict], int]:
    """The rows of `data.split` in `files`, which lie below `base`, and how many rows they have; see `read_rows`."""
    rows = list(tqdm((row for path in files for row in read_rows(path, base, data)), desc="fetch_data"))
    if not rows:
        raise InputError("the data set has no rows")
    return [rows[n] for _, part in slices({SPLIT: len(rows)}, data.split) for n in part], len(rows)


def read_rows(path: Path, base: Path, data: Data) -> Iterator[dict]:
    """The rows of one file, as dicts of `softprompt.data.rows.RAW_SCHEMA`; their source is its path below `base`.

    Raises:
        InputError: if the file is not what its extension says, or a row fits no format; names the file and the line or
            row.
    """
    records = READERS[path.suffix.lower()](path, lambda place, found: layout_of(place, found, data))
    below = path.relative_to(base)
    try:
        for where, layout, record in records:
            yield layout.row(f"{path.name}, {where}", record, source=below.with_suffix("").as_posix())
    except InputError as error:
        if below.parent == Path():
            raise
        raise InputError(f"{below.parent.as_posix()}/{error}") from None  # what readers say begins with the file's name
