"""A hub's repository of data, as `datasets` loads it: its header or its file names say which file is which split."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from softprompt.config.data import Data
from softprompt.data.readers.layouts import layout_of
from softprompt.data.readers.split_syntax import slices
from softprompt.runtime.errors import InputError
from softprompt.runtime.progress import tqdm


def read_repository(folder: Path, files: list[Path], data: Data) -> tuple[list[dict], int]:
    """The rows of `data.split`, as dicts of `softprompt.data.rows.RAW_SCHEMA`, and how many rows all splits have.

    Args:
        folder: of the repository.
        files: those that were named one by one; empty: `datasets` finds them.
        data: the section of params.yaml.

    Raises:
        InputError: if `datasets` can't read it, there is no such split, or a row fits no format; names split and row.
    """
    with tempfile.TemporaryDirectory(prefix="datasets-") as cache:
        splits = _load_splits(folder, files, data, Path(cache))
        sizes = {name: len(split) for name, split in splits.items()}
        rows = (row for name, part in slices(sizes, data.split) for row in _rows(splits[name], part, name, data))
        return list(tqdm(rows, desc="fetch_data")), sum(sizes.values())


def _load_splits(folder: Path, files: list[Path], data: Data, cache: Path) -> dict[str, Any]:
    """The data set's splits, each a `datasets.Dataset` in `cache`."""
    from datasets import load_dataset

    named = {"data_files": [str(file.relative_to(folder)) for file in files]} if files else {}
    try:
        return dict(load_dataset(str(folder), cache_dir=str(cache), **named))
    except Exception as error:  # of any library that reads a format
        lines = [line.strip() for line in str(error.__cause__ or error).splitlines() if line.strip()]
        why = (
            (" ".join(lines[:2]) if lines else type(error).__name__)
            .replace(f"{folder}/", "")
            .replace(str(folder), "it")
        )
        hint = f"; name the files of one: {data.source}#GLOB" if "Config name is missing" in why else ""
        raise InputError(f"`datasets` can't load it: {why[:400]}{hint}") from None


def _rows(split: Any, part: range, name: str, data: Data) -> Iterator[dict]:
    layout = layout_of(f"split {name}", split.column_names, data)
    source = data.source.rpartition("://")[2].partition("#")[0]
    rows = split.select_columns(list(layout.names().values())).select(part)
    for number, record in zip(part, rows, strict=True):
        yield layout.row(f"split {name}, row {number + 1}", record, source=source)
