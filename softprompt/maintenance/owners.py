"""Whose the objects of DVC's cache are: a user's, who gave them to `dvc add`, or a stage's, which makes them again."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from softprompt.runtime.errors import InputError

HASH = re.compile(r"\b[0-9a-f]{32}(?:\.dir)?\b")


@dataclass(frozen=True)
class Owners:
    """What names an object.

    Attributes:
        given: by its name (its MD5, and ".dir" for the list of a folder), the user's file that it is of.
        made: those that a stage wrote. An object may be in both; it is the user's then.
    """

    given: dict[str, str]
    made: set[str]


def owners(roots: list[Path], cache: Path, *, in_git: bool) -> Owners:
    """Who names what in the workspaces `roots`, in git's index and every commit (if `in_git`), in the run cache.

    Commits are those of all branches, tags, experiments, stashes and reflogs.

    Raises:
        InputError: if git can't read them.
    """
    given: dict[str, tuple[str, str]] = {}
    made: set[str] = set()
    for file, text, where in [*_in_workspaces(roots), *(_in_commits(roots[0]) if in_git else [])]:
        if file.endswith(".dvc"):
            # Every hash in it, not what YAML says that it is: the file may hold a conflict, which names two.
            for name in HASH.findall(text):
                given.setdefault(name, (file.removesuffix(".dvc"), where))
        else:
            made |= _outs(_yaml(text))
    for entry in (cache / "runs").glob("*/*/*"):
        made |= _outs(_yaml(entry.read_text(encoding="utf-8", errors="replace")))
    for name, (folder, where) in list(given.items()):
        for member, within in _members(cache, name):
            given.setdefault(member, (f"{folder}/{within}", where))
    for name in list(made):
        made |= {member for member, _ in _members(cache, name)}
    return Owners({name: file + where for name, (file, where) in given.items()}, made)


def object_path(cache: Path, name: str) -> Path:
    """Where DVC 3 keeps the object."""
    return cache / "files/md5" / name[:2] / name[2:]


def _in_workspaces(roots: list[Path]) -> Iterator[tuple[str, str, str]]:
    for root in roots:
        for folder, inner, files in os.walk(root):
            inner[:] = [name for name in inner if name not in (".git", ".venv")]
            for path in (Path(folder, name) for name in files if name.endswith(".dvc") or name == "dvc.lock"):
                if path.is_file():  # and no broken link
                    yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8", errors="replace"), ""


def _in_commits(root: Path) -> Iterator[tuple[str, str, str]]:
    listed = _git(root, "rev-list", "--objects", "--all", "--reflog", "--indexed-objects").decode(errors="replace")
    paths = dict(line.split(" ", 1) for line in listed.splitlines() if " " in line)
    wanted = [sha for sha, path in paths.items() if path.endswith(".dvc") or path.split("/")[-1] == "dvc.lock"]
    told = _git(root, "cat-file", "--batch", stdin="\n".join(wanted).encode())
    while told:  # "SHA TYPE SIZE", a line break, SIZE bytes, a line break; "SHA missing" for what a partial clone lacks
        head, _, told = told.partition(b"\n")
        sha, kind, *size = head.decode().split()
        if size:
            length = int(size[0])
            if kind == "blob":  # the folder .dvc ends so too
                yield paths[sha], told[:length].decode(errors="replace"), " (of another commit)"
            told = told[length + 1 :]


def _git(root: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    result = subprocess.run(["git", *arguments], cwd=root, input=stdin, capture_output=True, check=False)
    if result.returncode:
        said = result.stderr.decode(errors="replace")
        raise InputError(f"git can't tell what its commits name, so nothing was removed: {said}")
    return result.stdout


def _yaml(text: str) -> Any:
    try:
        return yaml.load(text, yaml.CSafeLoader)
    except yaml.YAMLError:  # as with a conflict in it: what it names is not taken for a stage's
        return None


def _outs(value: Any) -> set[str]:
    """Hashes under any key `outs`: of dvc.lock's stages, and of an entry of the run cache."""
    if not isinstance(value, dict):
        return set()
    return set(HASH.findall(repr(value.get("outs")))).union(*map(_outs, value.values()))


def _members(cache: Path, name: str) -> list[tuple[str, str]]:
    """The objects of the files in a folder, each with its path there; none where the folder's list is not at hand."""
    if not name.endswith(".dir"):
        return []
    try:
        return [(file["md5"], file["relpath"]) for file in json.loads(object_path(cache, name).read_bytes())]
    except (OSError, ValueError, KeyError, TypeError):
        return []
