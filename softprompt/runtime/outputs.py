"""Outputs that appear whole or not at all, and that are verified before they are used.

Each output folder ends with `SHA256SUMS` (the format of `sha256sum -c`). DVC trusts what lies read-only in its cache,
so a damaged object is noticed here or nowhere.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from softprompt.runtime.errors import InputError

MANIFEST = "SHA256SUMS"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def scratch_folder(beside: Path) -> Iterator[Path]:
    """Yield an empty, ignored folder next to `beside` that is gone afterwards, unless it was renamed."""
    folder = beside.with_name(f".{beside.name}.partial")
    shutil.rmtree(folder, ignore_errors=True)  # left behind by a run that was killed
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def output_folder(final: Path) -> Iterator[Path]:
    """Yield an empty folder beside `final`; write its manifest and rename it to `final` if the block succeeds."""
    with scratch_folder(final) as partial:
        yield partial
        lines = [f"{sha256_of(partial / name)}  {name}\n" for name in sorted(_names_in(partial))]
        (partial / MANIFEST).write_text("".join(lines), encoding="utf-8")
        shutil.rmtree(final, ignore_errors=True)
        os.rename(partial, final)


@contextlib.contextmanager
def removed_on_failure(folder: Path) -> Iterator[Path]:
    """Yield `folder`, for what is to be seen while it is written; remove it if the block fails."""
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextlib.contextmanager
def output_file(final: Path) -> Iterator[Path]:
    """Yield a path beside `final` to write to; rename it to `final` if the block succeeds."""
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f".{final.name}.partial")
    try:
        yield partial
        os.replace(partial, final)
    finally:
        partial.unlink(missing_ok=True)


def write_json(final: Path, value: dict[str, Any]) -> None:
    """Write `value` as JSON, keys in the order given, whole or not at all."""
    with output_file(final) as path:
        path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def faults_in(folder: Path) -> list[str]:
    """What differs between `folder` and its manifest, one line per file; empty if nothing does."""
    manifest, found = folder / MANIFEST, _names_in(folder)
    lines = manifest.read_text(encoding="utf-8", errors="replace").splitlines()
    digests = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    faults = [f"{folder / name} is missing" for name in sorted(digests.keys() - found)]
    # A manifest that lost its lines would otherwise vouch for anything.
    faults += [f"{folder / name} is not in {manifest}" for name in sorted(found - digests.keys())]
    for name in sorted(found & digests.keys()):
        if sha256_of(folder / name) != digests[name]:
            faults.append(f"{folder / name} is damaged (its SHA-256 is not the one in {manifest})")
    return faults


def fingerprint(folder: Path, *apart_from: str) -> str:
    """SHA-256 of an output folder's manifest without the files `apart_from`: equal where all others' bytes are."""
    lines = (folder / MANIFEST).read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.partition("  ")[2] not in apart_from]
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()


def _names_in(folder: Path) -> set[str]:
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return set(files) - {MANIFEST}


def required(path: Path, stage: str) -> Path:
    """`path`, a file that `stage` has written.

    Raises:
        InputError: if it is missing.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing; make it with: dvc repro {stage}")
    return path


def verified(folder: Path, stage: str) -> Path:
    """`folder`, whose every file matches its manifest.

    Raises:
        InputError: if the folder is missing (names the command that makes it) or damaged (names the one that repairs).
    """
    if not (folder / MANIFEST).is_file():
        raise InputError(f"{folder} is missing or incomplete; make it with: dvc repro {stage}")
    if faults := faults_in(folder):
        raise InputError(*faults, "repair the workspace and DVC's cache with: make repair")
    return folder
