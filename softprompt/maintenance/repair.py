"""Remove what is damaged, so that DVC makes it again: `python -m softprompt.maintenance.repair` (`make repair`).

DVC takes a read-only object of its cache for good, without hashing it again. This hashes every object and removes those
that a stage makes again, where the bytes are not the ones that the name promises, and the outputs that a manifest shows
as damaged. What a user gave to `dvc add` is only named: its object may be the last copy, and its bytes an edit.
"""

import hashlib
import shutil
import tempfile
from pathlib import Path

from dvc.repo import Repo
from dvc.scm import NoSCM

from softprompt.maintenance.owners import HASH, object_path, owners
from softprompt.maintenance.running import alone, worktrees
from softprompt.runtime.errors import InputError
from softprompt.runtime.guard import exit_on_input_error
from softprompt.runtime.outputs import MANIFEST, faults_in
from softprompt.runtime.paths import FOLDERS
from softprompt.runtime.progress import tqdm

ADVICE = (
    "no stage makes this again, so nothing of it was removed. To keep the bytes as they are now, under their own hash: "
    "dvc add FILE. To have the promised ones again: move FILE and the object aside, then dvc pull FILE, where a remote "
    "has them, or put a good copy in its place and dvc add FILE"
)


def main() -> None:
    """Remove damaged objects and outputs of stages and say so; name the user's damaged objects.

    Raises:
        InputError: if there are such, or DVC works here.
    """
    with Repo() as repo, alone(repo, "make repair"):
        cache = Path(repo.cache.local_cache_dir)
        damaged = damaged_objects(cache)
        kept = _not_made_again(repo, cache, damaged) if damaged else {}
        removed = [object_path(cache, name) for name in damaged if name not in kept]
        for path in removed:
            path.unlink()
        moved = {}
        for folder in FOLDERS:
            if (folder / MANIFEST).is_file() and faults_in(folder):
                moved[folder] = Path(tempfile.mkdtemp(prefix="damaged-", dir=".dvc/tmp")) / folder.name
                shutil.move(folder, moved[folder])  # not removed: a file in it may be one that somebody put there
    for path in removed:
        print(f"removed {path}")
    for path, place in moved.items():
        print(f"moved {path} to {place}, which you may remove")
    if removed or moved:
        print(f"{len(removed) + len(moved)} damaged; `make repro` makes them again")
    if kept:
        raise InputError(
            *(
                f"{owner}: damaged in DVC's cache, and left as it is: {object_path(cache, name)} has the MD5 "
                f"{damaged[name]}, its name promises {name.removesuffix('.dir')}"
                for name, owner in kept.items()
            ),
            ADVICE,
        )
    if not removed and not moved:
        print("nothing is damaged")


def damaged_objects(cache: Path) -> dict[str, str]:
    """Names of the objects of a DVC 3 cache that don't match their bytes, with the MD5 of these."""
    found = {}
    for path in tqdm(sorted((cache / "files/md5").glob("??/*")), desc="hashing the cache", disable=None):
        name = path.parent.name + path.name
        if not HASH.fullmatch(name):
            continue  # a file that another DVC, with the same cache, is about to name
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
        if digest != name.removesuffix(".dir"):
            found[name] = digest
    return found


def _not_made_again(repo: Repo, cache: Path, damaged: dict[str, str]) -> dict[str, str]:
    """Of the damaged objects those that must stay, each with what it is of."""
    named = owners(worktrees(Path(repo.root_dir)), cache, in_git=not isinstance(repo.scm, NoSCM))
    # A damaged list of a user's folder names what it will: any object may be of that folder.
    unsure = any(name.endswith(".dir") and name in named.given for name in damaged)
    nobody = "an object that no .dvc file, stage or commit here names"
    unknown = "an object that may be of a folder of yours" if unsure else nobody
    return {
        name: named.given.get(name, unknown)
        for name in damaged
        if name in named.given or name not in named.made or unsure
    }


if __name__ == "__main__":
    with exit_on_input_error():
        main()
