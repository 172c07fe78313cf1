"""Which file is read by what: its extension, perhaps behind that of a compression."""

from collections.abc import Callable, Collection
from pathlib import Path, PurePath

from softprompt.data.readers import chatterbot, delimited, json_tables, tables
from softprompt.data.readers.opening import COMPRESSIONS
from softprompt.data.readers.records import Options, Table
from softprompt.runtime.errors import InputError

# `datasets` could read these too, but not without loss (measured with 5.2): of JSON it turns texts that look like dates
# into dates, drops half a surrogate pair, and refuses a whole file for one odd row; of CSV it shifts the columns where
# the first row has a cell too many. Here every row is read, or is told of.
READERS: dict[str, Callable[[Path, Options], Table]] = {
    ".json": json_tables.read,
    ".jsonl": json_tables.read,
    ".ndjson": json_tables.read,
    ".csv": delimited.read,
    ".tsv": delimited.read,
    ".parquet": tables.read_parquet,
    ".arrow": tables.read_arrow,
    ".yml": chatterbot.read,
    ".yaml": chatterbot.read,
}
# What describes a data set beside its files, `datasets`' own and those of what it saves to disk.
DESCRIPTIONS = ("config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")


def extension(path: PurePath) -> str:
    """The extension that says what `path` holds, in lower case, without that of a compression."""
    name = path.name.lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return PurePath(name).suffix


def is_beside_data(path: Path) -> bool:
    """Whether `path` is what lies beside a data set: a description, a text about it, its code."""
    return path.name in DESCRIPTIONS or path.suffix.lower() in ("", ".md", ".txt", ".py", ".dvc")


def stem(name: str) -> str:
    """The path `name` without its extension and that of a compression."""
    path = PurePath(name)
    while path.suffix.lower() in {**COMPRESSIONS, **READERS}:
        path = path.with_suffix("")
    return path.as_posix()


def select_data_files(files: list[Path]) -> list[Path]:
    """The files whose extension has a reader; a file that was named outright must have one."""
    rows = [file for file in files if file.name not in DESCRIPTIONS]
    return with_extension(rows or files, READERS)


def with_extension(files: list[Path], allowed: Collection[str]) -> list[Path]:
    """The files whose extension is one of the allowed.

    Raises:
        InputError: if there are none.
    """
    readable = [path for path in files if extension(path) in allowed]
    if not readable:
        found = ", ".join(sorted({path.suffix or path.name for path in files})) or "an empty folder"
        raise InputError(
            f"found {found}; allowed extensions: {', '.join(allowed)}, each also with {', '.join(COMPRESSIONS)}"
        )
    return readable


def open_table(path: Path, options: Options | None = None) -> Table:
    """The table in the file `path`.

    Raises:
        InputError: if the file is not what its extension says.
    """
    return READERS[extension(path)](path, options or Options())
