"""A path of this machine: a file, a folder (the files in it) or a glob."""

from glob import glob
from pathlib import Path

from stages.workspace.errors import InputError


def find(path: str) -> list[Path]:
    """The files that `path` names, sorted.

    Raises:
        InputError: if there are none.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        files = [file for file in place.iterdir() if file.is_file()]
    elif place.exists():
        files = [place]
    else:
        files = [Path(name) for name in glob(str(place), recursive=True) if Path(name).is_file()]
        if not files:
            raise InputError("no such file or folder (relative paths start at the repository's root)")
    return sorted(files)
