"""A path of this machine: a file, a folder (the files in it) or a glob.

DVC sees changes of what lies in `WATCHED`. It hashes a file that a link points to, but never enters a link to a folder.
"""

import contextlib
import os
from glob import glob
from pathlib import Path

from softprompt.runtime.errors import InputError
from softprompt.runtime.paths import main_repository
from softprompt.sources.repository import REFERENCE
from softprompt.sources.request import Files, Select, fixed_part

WATCHED = (Path("data/local"), Path("models/local"))


def resolved(source: str) -> str:
    """`source` with its scheme, which a path has not: a base OWNER/NAME that is no path here is the Hugging Face hub's.

    Where OWNER is a folder it is a path, so that nobody asks a hub for a file whose name was mistyped.
    """
    if "://" in source or not REFERENCE.fullmatch(source):
        return source
    owner = source.partition("/")[0]
    return source if any(os.path.isdir(root / owner) for root in (Path(), main_repository())) else f"hf://{source}"


def repository(source: str) -> str:
    """Of a resolved source, what its revision is of: single files are of their repository."""
    return source.partition("#")[0] if source.startswith(("hf://", "ms://")) else source


def find(path: str, select: Select, *, nested: bool) -> Files:
    """The files that `path` names and `select` keeps, sorted; `nested`: of a folder, those in its folders too.

    Raises:
        InputError: if there are none, an experiment's own workspace lacks some of them, or DVC can't see their changes
            through a link.
    """
    _check_workspace(path, select, nested)
    place = Path(path).expanduser()
    base, found = _files(place, nested)
    if not found and not place.is_dir():
        hub = f"; on the Hugging Face hub: hf://{path}" if REFERENCE.fullmatch(path) else ""
        raise InputError(f"no such file or folder (relative paths start at the repository's root{hub})")
    chosen = select(found)
    for file in chosen:
        _check_links(file)
    return Files(chosen, base, whole=place.is_dir())


def is_watched(file: Path) -> bool:
    """Whether `file` lies in a folder whose changes DVC sees."""
    return any(_is_one_of_the_watched(folder) for folder in _parents(file))


def _files(place: Path, nested: bool) -> tuple[Path, list[Path]]:
    """The folder that relative paths start at, and the files."""
    if place.is_dir():
        files = (file for file in (place.rglob("*") if nested else place.iterdir()) if file.is_file())
        return place, sorted(file for file in files if not _is_hidden(file.relative_to(place)))
    if place.exists():
        return place.parent, [place]
    return Path(fixed_part(place.as_posix())), sorted(
        Path(name) for name in glob(str(place), recursive=True) if Path(name).is_file()
    )


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _check_workspace(path: str, select: Select, nested: bool) -> None:
    """An experiment aside (--temp, --queue) has a workspace of its own, with what git and DVC track."""
    root = main_repository()
    if Path(path).expanduser().is_absolute() or not root.is_dir() or root.samefile(Path()):
        return
    there = _files(root / path, nested)[1]
    with contextlib.suppress(InputError):  # which says what is wrong with them all
        there = select(there)
    if lacking := sorted({file.relative_to(root) for file in there} - set(_files(Path(path), nested)[1])):
        names = ", ".join(map(str, lacking))
        raise InputError(
            f"{names} is in {root}, but not in this experiment's own workspace, which has what git or DVC tracks: "
            f"git add or dvc add it there first"
        )


def _check_links(file: Path) -> None:
    link = None
    for folder in _parents(file):
        if _is_one_of_the_watched(folder):
            break
        if folder.is_symlink():
            link = folder
    else:
        return
    if link is not None:
        raise InputError(
            f"{os.path.relpath(link)} is a link to a folder, into which DVC does not look: a change behind it would go "
            "unseen. Put the files themselves there, or name the folder that the link points to"
        )


def _parents(file: Path) -> tuple[Path, ...]:
    return tuple(Path(os.path.abspath(file)).parents)  # not resolve(), which would look through the links


def _is_one_of_the_watched(folder: Path) -> bool:
    return any(watched.exists() and folder.exists() and folder.samefile(watched) for watched in WATCHED)
