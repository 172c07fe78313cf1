"""Splits: which file is part of which, and the slice syntax of Hugging Face `datasets` (`train[:10%]`)."""

import contextlib
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from softprompt.runtime.errors import InputError
from softprompt.sources.repository import HEADER
from softprompt.sources.request import RowsOf

SPLIT = "train"  # files that name no split are "train", as in `datasets`


def named_splits(split: str) -> set[str]:
    """The splits that an expression takes rows from."""
    return {match[1] for part in split.split("+") if (match := re.match(r"\s*([\w.-]+)", part))}


def files_by_split(names: Sequence[str], header: Path | None, subset: str | None) -> dict[str, list[str]]:
    """Which of a data set's files are which split, by the rules of `datasets`: its header's, else the files' names.

    Args:
        names: paths of the files below the data set's folder.
        header: its README.md; None where there is none.
        subset: the configuration that is wanted; None: the default.

    Raises:
        InputError: if there is no such subset, or there are several and none is the default.
    """
    from datasets.data_files import DataFilesDict, get_data_patterns, sanitize_patterns

    text = header.read_text(encoding="utf-8") if header is not None else ""
    # `datasets` tells by names alone, and looks for them in a folder: here one of empty files, since those of other
    # splits need not be there. Not by `load_dataset`: it would leave out files of the rarer one of two formats.
    with tempfile.TemporaryDirectory(prefix="splits-") as place:
        folder = Path(place).resolve()
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        configuration = _configuration(text, subset)
        base = folder / configuration.get("data_dir", "")
        try:
            data_files = configuration.get("data_files")
            patterns = sanitize_patterns(data_files) if data_files else get_data_patterns(str(base))
        except (OSError, ValueError) as error:
            why = " ".join(str(error).replace(f"{folder}/", "").split())
            raise InputError(f"which file is which split can't be told: {why[:300]}") from None
        found: dict[str, list[str]] = {}
        for split, wanted in patterns.items():
            with contextlib.suppress(FileNotFoundError):  # of a split that is not asked for, or not there
                paths = DataFilesDict.from_patterns({split: wanted}, base_path=str(base))[split]
                found[str(split)] = [Path(path).relative_to(folder).as_posix() for path in paths]
    return {split: kept for split, paths in found.items() if (kept := [path for path in paths if path in set(names)])}


def _configuration(header: str, subset: str | None) -> dict[str, Any]:
    """What the header of a data set says of a subset; nothing where it has none."""
    if not header.startswith("---") and subset is None:
        return {}
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard

    try:
        configurations = MetadataConfigs.from_dataset_card_data(DatasetCard(header, ignore_metadata_errors=True).data)
        name = subset or configurations.get_default_config_name()
    except ValueError as error:
        raise InputError(f"{HEADER}: {' '.join(str(error).split())}") from None
    if not configurations and subset is None:
        return {}
    if name not in configurations:
        wanted = "one has to be named" if subset is None else f"there is no {subset!r}"
        raise InputError(f"data.subset: {wanted}; the data set has: {', '.join(configurations) or 'none'}")
    return configurations[name]


def wanted_files(
    wanted: Mapping[str, str | None],
    subset: str | None,
    names: Sequence[str],
    header: Path | None,
    rows_of: RowsOf | None,
) -> tuple[list[str], dict[str, int]]:
    """Those of a data set's files that hold wanted rows; and of the others in the same splits how many rows they have.

    Args:
        wanted: parameter -> its expression; None: all rows.
        subset: see `files_by_split`, the names and the header too.
        names: of all files.
        header: README.md.
        rows_of: see `softprompt.sources.request.WantedFiles`.
    """
    found = files_by_split(names, header, subset)
    expressions = {key: slice for key, slice in wanted.items() if slice is not None}
    if len(expressions) < len(wanted):
        splits = found
    else:
        asked = set().union(*map(named_splits, expressions.values()))
        # Without a file of such a split it is read, and said, which splits there are.
        splits = {split: files for split, files in found.items() if split in asked} or found
    files = sorted({name for files in splits.values() for name in files}) or list(names)
    sliced = len(expressions) == len(wanted) and any("[" in slice for slice in expressions.values())
    if rows_of is None or not sliced or len(files) == len(splits) or not all(".parquet" in name for name in files):
        return files, {}
    rows = {name: rows_of(name) for name in files}
    sizes = {split: sum(rows[name] for name in files) for split, files in splits.items()}
    needed: set[str] = set()
    for key, expression in expressions.items():
        for split, chosen in slices(sizes, expression, key):
            start = 0
            for name in splits[split]:
                if chosen.start < start + rows[name] and start < chosen.stop:
                    needed.add(name)
                start += rows[name]
    return sorted(needed), {name: rows[name] for name in files if name not in needed}


def slices(sizes: Mapping[str, int], split: str, key: str = "data.split") -> list[tuple[str, range]]:
    """The rows that `split` names: parts of splits, in order.

    Args:
        sizes: rows of each split that the data set has.
        split: an expression of `datasets`.
        key: the parameter that it is the value of.

    Raises:
        InputError: if the syntax is wrong, a split does not exist, or nothing is selected.
    """
    from datasets import ReadInstruction

    names = named_splits(split)
    if unknown := sorted(names - set(sizes)):
        raise InputError(f"{key}: {split!r}: no split {', '.join(unknown)}; the data set has: {', '.join(sizes)}")
    try:
        parts = ReadInstruction.from_spec(split).to_absolute(dict(sizes))
    except (ValueError, AssertionError) as error:
        raise InputError(
            f"{key}: {split!r} is not in the slice syntax of `datasets` (such as train, train[:10%] or "
            f"train[100:200]): {' '.join(str(error).split())}"
        ) from None
    chosen = [(part.splitname, range(part.from_, part.to)) for part in parts]
    if not any(part for _, part in chosen):
        raise InputError(f"{key}: {split!r} selects none of the {sum(sizes[name] for name in names)} rows")
    return chosen
