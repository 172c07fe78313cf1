"""Row formats by file extension. A format is one function `read(path, columns) -> rows` and one line in `READERS`."""

from collections.abc import Iterator
from pathlib import Path

from stages.formats import chatterbot, tables
from stages.params.data import Columns
from stages.workspace.errors import InputError

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
    readable = [path for path in files if path.suffix.lower() in READERS]
    if not readable:
        found = ", ".join(sorted({path.suffix or path.name for path in files})) or "an empty folder"
        raise InputError(f"found {found}; allowed extensions: {', '.join(READERS)}")
    return readable


def read_rows(path: Path, columns: Columns) -> Iterator[dict]:
    """The rows of one file, as dicts of `stages.rows.RAW_SCHEMA`.

    Raises:
        InputError: if the file is not what its extension says, a column is missing or a cell is not text; names the
            file and the line or row.
    """
    return READERS[path.suffix.lower()](path, columns)
