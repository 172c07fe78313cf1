"""Splits: which file is part of which, and the slice syntax of Hugging Face `datasets` (`train[:10%]`)."""

import glob
import re
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from softprompt.runtime.errors import InputError
from softprompt.runtime.text import read_text
from softprompt.sources.repository import HEADER
from softprompt.sources.request import RowsOf

SPLIT = "train"  # files that name no split are "train", as in `datasets`


def named_splits(split: str) -> set[str]:
    """The splits that an expression takes rows from."""
    return {match[1] for part in split.split("+") if (match := re.match(r"\s*([\w.-]+)", part))}


def files_by_split(
    names: Sequence[str],
    header: Path | None,
    subset: str | dict[str, str] | None,
    asked: Collection[str] | None = (),
) -> dict[str, list[str]]:
    """Which of a data set's files are which split, by the rules of `datasets`: its header's, else the files' names.

    Args:
        names: paths of the files below the data set's folder.
        header: its README.md; None where there is none.
        subset: the configuration that is wanted; None: the default. `fetch_data` has made of a mapping its source's.
        asked: the splits all of whose files have to be there; None: every one.

    Raises:
        InputError: if there is no such subset, or there are several and none is the default; if the header is none, or
            names files that are not there, or not of the data set.
    """
    from datasets.data_files import get_data_patterns, sanitize_patterns

    configuration = _configuration(read_text(header) if header is not None else "", subset)
    data_files, below = configuration.get("data_files"), configuration.get("data_dir") or ""
    _check_pattern(below)
    # `datasets` tells by names alone, and looks for them in a folder: here one of empty files, since those of other
    # splits need not be there. Not by `load_dataset`: it would leave out files of the rarer one of two formats.
    with tempfile.TemporaryDirectory(prefix="splits-") as place:
        folder = Path(place).resolve()
        # A header means the names that it spells; without one, Train.JSON is of the split train.
        spelt = str if data_files else str.lower
        real: dict[str, list[str]] = {}
        for name in names:
            real.setdefault(spelt(name), []).append(name)
        for name in real:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        base = folder / spelt(below)
        try:
            patterns = sanitize_patterns(data_files) if data_files else get_data_patterns(str(base))
        except (OSError, ValueError, TypeError) as error:
            why = " ".join(str(error).replace(f"{folder}/", "").split())
            raise InputError(f"which file is which split can't be told: {why[:300]}") from None
        found: dict[str, list[str]] = {}
        for split, wanted in patterns.items():
            matches = {pattern: _matches(pattern, folder, base) for pattern in wanted}
            found[str(split)] = list(dict.fromkeys(name for paths in matches.values() for name in paths))
            lacking = [pattern for pattern in matches if not matches[pattern]]
            # Of names alone, most patterns match nothing. Of a header's, `datasets` lets a glob do so beside others.
            if data_files and (asked is None or split in asked):
                missing = [pattern for pattern in lacking if not (found[split] and glob.has_magic(pattern))]
                if missing:
                    raise InputError(f"{HEADER}: no data file matches {', '.join(missing)}, of its split {split}")
    return {
        split: files
        for split, paths in found.items()
        if (files := [name for path in paths for name in real.get(path, [])])
    }


def _matches(pattern: str, folder: Path, base: Path) -> list[str]:
    """The files in `folder` that a pattern below `base` matches, as paths below `folder`."""
    from datasets.data_files import DataFilesList

    _check_pattern(pattern)
    try:
        return [Path(path).relative_to(folder).as_posix() for path in DataFilesList.from_patterns([pattern], str(base))]
    except FileNotFoundError:
        return []


def _check_pattern(pattern: Any) -> None:
    """Refuse what is no path within the data set: a header is not to send requests, or looks, elsewhere.

    Raises:
        InputError: naming it.
    """
    if not isinstance(pattern, str) or ":" in pattern or pattern.startswith("/") or ".." in PurePath(pattern).parts:
        raise InputError(
            f"{HEADER}: {pattern!r} is no path within the data set: relative, without .. and without colon"
        )


def _configuration(header: str, subset: str | dict[str, str] | None) -> dict[str, Any]:
    """What the header of a data set says of a subset; nothing where it has none."""
    import yaml
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    configurations, name = MetadataConfigs(), subset
    try:
        if REGEX_YAML_BLOCK.search(header):
            card = DatasetCard(header, ignore_metadata_errors=True)
            configurations = MetadataConfigs.from_dataset_card_data(card.data)
            name = subset or configurations.get_default_config_name()
    # Of YAML that holds other things than `datasets` expects it raises what comes.
    except (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise InputError(f"{HEADER}: its header can't be read: {' '.join(str(error).split())[:300]}") from None
    if not configurations and subset is None:
        return {}
    if name not in configurations:
        wanted = "one has to be named" if subset is None else f"there is no {subset!r}"
        raise InputError(f"data.subset: {wanted}; the data set has: {', '.join(configurations) or 'none'}")
    return configurations[name]


def asked_splits(slices: Iterable[str | None]) -> set[str] | None:
    """The splits that rows are wanted of by expressions, of which None stands for all rows; None: all splits."""
    asked: set[str] = set()
    for expression in slices:
        if expression is None:
            return None
        asked |= named_splits(expression)
    return asked


def wanted_files(
    wanted: Mapping[str, str | None],
    subset: str | dict[str, str] | None,
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
    if any(name.endswith(".arrow") for name in names):  # saved by `datasets`: its own files say more than the names
        return list(names), {}
    expressions = {key: slice for key, slice in wanted.items() if slice is not None}
    asked = asked_splits(wanted.values())
    found = files_by_split(names, header, subset, asked)
    # Without a file of such a split it is read, and said, which splits there are.
    splits = {split: files for split, files in found.items() if asked is None or split in asked} or found
    files = sorted({name for files in splits.values() for name in files}) or list(names)
    sliced = asked is not None and any("[" in slice for slice in expressions.values())
    if (
        rows_of is None
        or not sliced
        or len(files) == len(splits)
        or not all(name.lower().endswith(".parquet") for name in files)
    ):
        return files, {}
    counts = {name: rows_of(name) for name in files}
    rows = {name: count for name, count in counts.items() if count is not None}
    if len(rows) < len(files):
        return files, {}
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
