"""Sources of models and data: what `source` in params.yaml names becomes files to read.

A scheme is one module with `fetch(request) -> files` and one line in `SCHEMES`; `local.resolved` says what text without
one is.
"""

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from softprompt.runtime.errors import InputError
from softprompt.runtime.guard import disk_is_full
from softprompt.runtime.outputs import sha256_of
from softprompt.runtime.secrets import redacted
from softprompt.sources import huggingface, local, modelscope, pypi, remote
from softprompt.sources.kinds import check_kind
from softprompt.sources.repository import HEADER
from softprompt.sources.request import Files, Request, Select, WantedFiles

if TYPE_CHECKING:  # a stage depends on its own section's schema only
    from softprompt.config.data import Data
    from softprompt.config.general import General
    from softprompt.config.model import Model

SCHEMES: dict[str, Callable[[Request], Files]] = {
    "hf": huggingface.fetch,
    "ms": modelscope.fetch,
    "pypi": pypi.fetch,
    "s3": remote.fetch,
    "https": remote.fetch,
    "http": remote.fetch,
}


@contextlib.contextmanager
def fetched(
    params: "Model | Data | General",
    section: str,
    select: Select,
    wanted: WantedFiles | None = None,
    key: str = "source",
) -> Iterator[Files]:
    """Yield the files that `params.source` names.

    What comes from the network lies in a temporary folder, gone afterwards, or in its hub's own cache; local files are
    read where they lie.

    Args:
        params: the section of params.yaml.
        section: its name: "model", "data" or "general".
        select: keeps the files that are needed, or raises InputError.
        wanted: see `Request`.
        key: the parameter of the section that names the source in params.yaml; here it is `source` at all times.

    Raises:
        InputError: if the source can't be had, or its bytes are not the expected ones; with the source's name, if the
            block raises one.
    """
    key = f"{section}.{key}"
    given = params.source or ""  # `general` may have none; its stage doesn't ask then
    source = local.resolved(given)
    shown = repr(given) if source == given else f"{given!r} (no path here, so {source})"
    scheme, separator, reference = source.partition("://")
    if separator and scheme not in SCHEMES:
        allowed = ", ".join(f"{known}://" for known in SCHEMES)
        raise InputError(f"{key}: {source!r}: unknown scheme {scheme}://; allowed: {allowed}, or a path")
    with tempfile.TemporaryDirectory(prefix="fetch-") as folder:
        revision = of_source(params.revision, source)
        request = Request(section, key, scheme if separator else "", reference, revision, select, Path(folder), wanted)
        try:
            if revision is not None and scheme not in ("hf", "ms"):
                raise InputError(f"{section}.revision is for hf:// and ms:// sources; set it to null")
            found = SCHEMES[scheme](request) if separator else _local(source, request)
            wanted_files = [file for file in found.files if file not in found.unwanted]
            for file in wanted_files:
                check_kind(file)
            sha256 = digest(wanted_files, found.base)
        except (InputError, OSError, RuntimeError) as error:
            if disk_is_full(error) or _is_of_another_parameter(error, params, section):
                raise
            raise InputError(f"{key}: {shown}: {error}") from None
        if (pinned := of_source(params.sha256, source, exact=True)) not in (None, sha256):
            raise InputError(
                f"{section}.sha256: the bytes of {shown} are not the pinned ones: SHA-256 is {sha256}, expected "
                f"{pinned}; if the change is meant, set the new value, or null for no check"
            )
        try:
            yield replace(found, record={"source": redacted(source), **found.record, "sha256": sha256})
        except InputError as error:  # of what is read from it
            if _is_of_another_parameter(error, params, section):
                raise
            raise InputError(f"{key}: {given!r}: {error}") from error


def _is_of_another_parameter(error: Exception, params: "Model | Data | General", section: str) -> bool:
    return any(str(error).startswith(f"{section}.{key}") for key in type(params).model_fields)


def of_source(value: str | dict[str, str] | None, source: str, *, exact: bool = False) -> str | None:
    """A parameter that belongs to `source`, as `local.resolved` says it; of a mapping, the one that was written for it.

    Args:
        value: the parameter.
        source: with its scheme.
        exact: whether one that was written for the whole repository is not that of single files of it.
    """
    if isinstance(value, dict):
        named = {local.resolved(name): own for name, own in value.items()}
        return named.get(source, None if exact else named.get(local.repository(source)))
    return value


def _local(source: str, request: Request) -> Files:
    found = local.find(source, request.select, nested=request.section != "model")
    if not all(map(local.is_watched, found.files)):
        folders = " and ".join(f"{folder}/" for folder in local.WATCHED)
        print(
            f"{request.key}: {source} lies outside of {folders}, where DVC sees changes; after a change of it: "
            f"dvc repro --force fetch_{request.section}",
            flush=True,
        )
    if not found.whole or request.wanted is None:
        return found
    names = {file.relative_to(found.base).as_posix(): file for file in found.files}
    header = found.base / HEADER
    wanted = request.wanted(list(names), header if header.is_file() else None, None)[0]
    return replace(found, unwanted=frozenset(file for name, file in names.items() if name not in wanted))


def digest(files: list[Path], base: Path) -> str:
    """SHA-256 of one file's bytes; of several files, of their sorted "hash  path" lines, the paths below `base`."""
    if len(files) == 1:
        return sha256_of(files[0])
    lines = sorted(f"{sha256_of(path)}  {path.relative_to(base).as_posix()}\n" for path in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
