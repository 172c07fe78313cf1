"""What `datasets` saved to disk: its own files say which Arrow files it is made of, and which split they are."""

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from softprompt.data.readers.splits import SPLIT
from softprompt.runtime.errors import InputError

STATE, SPLITS = "state.json", "dataset_dict.json"  # of a Dataset, of a DatasetDict


def saved_splits(base: Path, names: Iterable[str]) -> dict[str, list[str]] | None:
    """Split -> its files below `base`; None where `base` is not what `datasets` saved.

    Raises:
        InputError: if a file is missing, or what describes them is damaged.
    """
    if (base / SPLITS).is_file():
        folders = {str(split): PurePosixPath(str(split)) for split in _read(base / SPLITS, "splits")}
    elif (base / STATE).is_file():
        folders = {SPLIT: PurePosixPath()}
    else:
        return None
    there, found = set(names), dict[str, list[str]]()
    for split, folder in folders.items():
        wanted = [(folder / entry["filename"]).as_posix() for entry in _read(base / folder / STATE, "_data_files")]
        if missing := sorted(set(wanted) - there):
            raise InputError(f"{', '.join(missing)} missing, which {(folder / STATE).as_posix()} names")
        found[split] = wanted
    return found


def _read(path: Path, key: str) -> list[Any]:
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))[key])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path.name}: not what `datasets` saves: {error}") from None
