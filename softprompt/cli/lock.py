"""What dvc.lock says of outputs, and the adapters of other revisions and experiments, through DVC's own API."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from softprompt.runtime.errors import InputError
from softprompt.runtime.paths import ADAPTER

if TYPE_CHECKING:
    from dvc.repo import Repo

WORKSPACE = "workspace"  # as DVC names it among revisions


@contextlib.contextmanager
def _repository() -> Iterator["Repo"]:
    """DVC's view of the current folder; what it refuses becomes `InputError`."""
    import logging

    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)
    try:
        with Repo() as repo:
            yield repo
    except DvcException as error:
        raise InputError(f"DVC: {error}") from None


def check_lock(*folders: Path) -> None:
    """Refuse outputs that are not those that dvc.lock describes.

    Raises:
        InputError: with a line for each.
    """
    with _repository() as repo:
        faults = []
        for folder in folders:
            (out,) = repo.find_outs_by_path(str(folder))
            if not out.hash_info:
                faults.append(f"dvc.lock does not describe {folder} yet")
            elif out.changed_checksum():
                faults.append(f"{folder} is not the one that dvc.lock describes")
    if faults:
        raise InputError(*faults, "bring it back with: dvc checkout; or run what is out of date: dvc repro")


def adapter_of(revision: str, folder: Path) -> Path:
    """models/adapter of an experiment, branch, tag or commit, copied from DVC's cache to `folder`.

    Raises:
        InputError: if there is no such revision, it has no adapter, or its adapter is not in the cache.
    """
    return tree_of(revision, folder, ADAPTER) / ADAPTER


def tree_of(revision: str, folder: Path, *outs: Path, files: Iterable[Path] = ()) -> Path:
    """A part of an experiment, branch, tag or commit, as it would lie in a clone of it, in `folder`.

    Args:
        revision: its name or hash.
        folder: to write to.
        outs: outputs, which come from DVC's cache.
        files: files and folders that git holds.

    Raises:
        InputError: if there is no such revision, or an output that it lacks, or that is not in the cache.
    """
    with _repository() as repo:
        from dvc.exceptions import OutputNotFoundError
        from dvc.scm import RevError, resolve_rev

        try:
            commit = resolve_rev(repo.scm, revision)
        except RevError:
            raise InputError(
                f"{revision} is no folder, and no experiment, branch, tag or commit of this repository; dvc exp list "
                "names the experiments"
            ) from None
        with repo.switch(commit):
            for path in outs:
                try:
                    (out,) = repo.find_outs_by_path(str(path))
                except OutputNotFoundError:
                    raise InputError(f"{revision}: its dvc.yaml has no {path}") from None
                if not out.hash_info:
                    raise InputError(f"{revision}: its dvc.lock has no {path}: the stage has not run there")
                if out.changed_cache():
                    raise InputError(
                        f"{revision}: its {path} is not in DVC's cache; fetch it with: dvc exp pull origin {revision} "
                        f"(an experiment), or: dvc fetch --all-commits {path}"
                    )
            for path in (*outs, *files):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                repo.dvcfs.get(path.as_posix(), str(folder / path), recursive=True)
    return folder
