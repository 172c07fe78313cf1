"""What the hubs have in common: which files of a repository are needed, room for them, and moved branches."""

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from softprompt.runtime.errors import InputError
from softprompt.runtime.outputs import write_json
from softprompt.runtime.paths import BASE_MODEL, main_repository
from softprompt.sources.checkpoint import check_configuration_files
from softprompt.sources.request import Files, Request, RowsOf

# What `datasets` reads by itself, compressed or not, and the header that says which file is which split.
TABLES = ("*.json", "*.jsonl", "*.ndjson", "*.csv", "*.tsv", "*.parquet", "*.arrow")
DATA_FILES = (*TABLES, *(f"{table}.{packed}" for table in TABLES for packed in ("gz", "bz2", "xz", "zst")))
TEXTS = ("*.txt",)
HEADER = "README.md"
REFERENCE = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?:#(?P<member>.+))?")
COMMIT = re.compile(r"[0-9a-f]{40}")
SHARD = re.compile(r"(.*?)(\d{1,6})-of-(\d{1,6})(\D.*)")
REVISIONS = ".revisions.json"  # what branches were at the last fetch; undeclared: DVC deletes outputs before a stage
ROWS = "rows"  # its key of the numbers of rows, by commit and file


def parse(request: Request) -> tuple[str, str | None]:
    """(owner/name, member) of a reference.

    Raises:
        InputError: if it is malformed.
    """
    match = REFERENCE.fullmatch(request.reference)
    if match is None:
        raise InputError(
            f"expected {request.scheme}://OWNER/NAME, or {request.scheme}://OWNER/NAME#MEMBER for single files (a glob)"
        )
    return match["name"], match["member"]


def header_of(request: Request, member: str | None, names: Iterable[str]) -> list[str]:
    """The file that says which of a data set's files are needed, if there is one and not all of them are.

    Raises:
        InputError: if they make no data set.
    """
    if request.wanted is None or member is not None:
        return []
    _matching(request, member, names)
    return [HEADER] if HEADER in names else []


def needed(
    request: Request,
    member: str | None,
    names: Iterable[str],
    header: Path | None = None,
    rows_of: RowsOf | None = None,
) -> tuple[list[str], dict[str, int]]:
    """Those of a repository's files that are needed, sorted; and the number of rows of those that are known not to be.

    Args:
        request: what is asked for.
        member: the files that are named, a glob; None: the whole repository.
        names: its files.
        header: README.md of a data set, as `header_of` says.
        rows_of: see `softprompt.sources.request.WantedFiles`.

    Raises:
        InputError: if they make no model, or no data set.
    """
    if request.kind == "model" and member is None:
        return [str(path) for path in request.select([Path(name) for name in sorted(names) if "/" not in name])], {}
    chosen = _matching(request, member, names)
    if request.kind == "model":
        request.select([Path(name) for name in chosen])
    elif member is None and request.wanted is not None:
        return request.wanted([name for name in chosen if name != HEADER], header, rows_of)
    return chosen, {}


def _matching(request: Request, member: str | None, names: Iterable[str]) -> list[str]:
    """The files that are named or, of a data set, that could hold rows, in upper case too."""
    names = sorted(names)
    if member is not None:
        chosen = [name for name in names if fnmatchcase(name, member)]
    else:
        tables = (*DATA_FILES, *(TEXTS if request.section == "general" else ()))
        chosen = [name for name in names if any(fnmatchcase(name.lower(), table) for table in tables) or name == HEADER]
    if not set(chosen) - {HEADER}:
        shown = ", ".join(name for name in names if not name.startswith(".")) or "nothing"
        shown = shown if len(shown) <= 300 else f"{shown[:300]} …"
        scripts = " (a data-set script is never run)" if any(name.endswith(".py") for name in names) else ""
        raise InputError(
            f"no {f'file {member}' if member else f'data file{scripts}'} in the repository; it holds {shown}"
        )
    return chosen


def parts(request: Request, chosen: list[str]) -> list[list[str]]:
    """The files in the order of their download; a later part has the earlier ones too.

    A model's configuration comes first: gigabytes of weights are no way to learn that it is of the wrong kind.
    """
    small = [name for name in chosen if name.endswith(".json")] if request.kind == "model" else []
    return [part for part in (small, chosen) if part]


def found(
    request: Request, folder: Path, chosen: list[str], elsewhere: dict[str, int], record: dict[str, str | None]
) -> Files:
    """The `chosen` files of a repository that lies in `folder`, and what the hub made of its revision."""
    name, member = parse(request)
    files = [folder / file for file in chosen if file != HEADER or member is not None]
    return Files(files, folder, whole=member is None, repository=name, elsewhere=elsewhere, record=record)


def check_configuration(request: Request, folder: Path, chosen: list[str]) -> None:
    """Refuse a model by its small files, before its weights are there.

    Raises:
        InputError: if it is no causal language model, wants code of its own, or lacks one of its shards.
    """
    if request.kind == "model" and (folder / "config.json").exists():
        request.select([folder / name for name in chosen])
        check_configuration_files(folder)


def check_space(cache: Path, sizes: Mapping[str, int], request: Request) -> None:
    """Refuse a download that would not fit: into the hub's cache and, of a model, into models/base/ as well.

    Raises:
        InputError: with what is needed and what is free.
    """
    download = sum(sizes.values())
    places = [(cache, download)]
    if request.kind == "model":
        places.append((BASE_MODEL, download))
    wanted: dict[int, int] = {}
    disks: dict[int, Path] = {}
    for place, size in places:
        existing = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())
        device = existing.stat().st_dev
        disks.setdefault(device, existing)
        wanted[device] = wanted.get(device, 0) + size
    for device, size in wanted.items():
        free = shutil.disk_usage(disks[device]).free
        if size > free:
            raise InputError(
                f"not enough disk: {size / 1e9:.2f} GB are needed in {disks[device]}, {free / 1e9:.2f} GB are "
                f"free; free some, or name another place for the cache ({request.scheme}: "
                f"{'HF_HOME' if request.scheme == 'hf' else 'MODELSCOPE_CACHE'})"
            )


def missing_shards(names: Iterable[str]) -> list[str]:
    """Of files that are numbered through, such as train-00001-of-00003.parquet, those that `names` lacks."""
    there, missing = set(names), set[str]()
    for match in filter(None, map(SHARD.fullmatch, there)):
        begin, number, total, end = match.groups()
        shards = [f"{begin}{place:0{len(number)}}-of-{total}{end}" for place in range(int(total) + 1)]
        from_one = shards[-1] in there or end in (".safetensors", ".gguf")  # as weights are; data from 0 on
        missing |= set(shards[1:] if from_one else shards[:-1]) - there
    return sorted(missing)


def tell_if_moved(request: Request, resolved: str) -> None:
    """Print that a branch or tag is no more what it was at the last fetch, and remember what it is now."""
    if COMMIT.fullmatch(request.revision or ""):
        return
    known = _remembered()
    branch = f"{request.source}@{request.revision or 'default branch'}"
    if known.get(branch, resolved) != resolved:
        print(
            f"{request.key}: {branch} has moved since the last fetch, from {known[branch]} to {resolved}; "
            f"to stay at one, set {request.section}.revision to it",
            flush=True,
        )
    write_json(main_repository() / REVISIONS, {**known, branch: resolved})


def remember_rows(commit: str, rows: Mapping[str, int]) -> None:
    """Keep for `rows_at` how many rows files of a commit have: without the hub, nothing says it of those elsewhere."""
    if rows:
        known = _remembered()
        write_json(
            main_repository() / REVISIONS,
            {**known, ROWS: {**known.get(ROWS, {}), commit: {**rows_at(commit), **rows}}},
        )


def rows_at(commit: str) -> dict[str, int]:
    """How many rows the files of a commit have, of those that were counted."""
    return dict(_remembered().get(ROWS, {}).get(commit, {}))


def _remembered() -> dict[str, Any]:
    path = main_repository() / REVISIONS
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
