"""`ms://OWNER/NAME` or `ms://OWNER/NAME#MEMBER`: a repository of ModelScope, through `modelscope_hub` (an extra).

Its own settings apply: MODELSCOPE_ENDPOINT, MODELSCOPE_API_TOKEN, MODELSCOPE_CACHE. The client checks each file
against the SHA-256 that the hub lists, and goes on with a broken download.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from softprompt.runtime.errors import InputError
from softprompt.sources.repository import (
    check_configuration,
    check_space,
    found,
    header_of,
    needed,
    parse,
    parts,
    tell_if_moved,
)
from softprompt.sources.request import Files, Request

INSTALL = "pip install modelscope-hub==0.5.1"
DEFAULT_BRANCH = "master"


def fetch(request: Request) -> Files:
    """The files of one revision that are needed, in ModelScope's own cache.

    Raises:
        InputError: if the extra is missing, there is no such repository or revision, access is refused, the hub can't
            be reached, or there is no room.
    """
    try:
        from modelscope_hub import HubApi, HubConfig
    except ImportError:
        raise InputError(f"ms:// needs one more package: {INSTALL}") from None
    name, member = parse(request)
    kind, revision = request.kind, request.revision or DEFAULT_BRANCH
    config = HubConfig()
    api = HubApi(config)
    with _explained(request, name, str(config.endpoint)):
        listed: dict[str, Any] = {
            entry.path: entry for entry in api.list_repo_files(name, kind, revision=revision) if not entry.is_dir
        }
        header = None
        for file in header_of(request, member, listed):
            header = Path(api.download_repo(name, kind, revision=revision, allow_patterns=[file])) / file
        chosen, elsewhere = needed(request, member, listed, header)
        here = _cached_files(api, name, kind, revision)
        missing = {file: listed[file].size for file in chosen if here.get(file) != listed[file].size}
        check_space(config.cache_dir, missing, request)
        for part in parts(request, chosen):
            folder = Path(api.download_repo(name, kind, revision=revision, allow_patterns=part))
            check_configuration(request, folder, chosen)
    lines = "".join(f"{listed[file].sha256}  {file}\n" for file in chosen)
    listing = hashlib.sha256(lines.encode()).hexdigest()  # the hub names no commit
    tell_if_moved(request, listing)
    return found(request, folder, chosen, elsewhere, {"revision": revision, "listing": listing})


def _cached_files(api: Any, name: str, kind: str, revision: str) -> dict[str, int]:
    """Sizes of the files that the cache has."""
    from modelscope_hub.errors import CacheNotFound

    try:
        folder = Path(api.download_repo(name, kind, revision=revision, local_files_only=True))
    except CacheNotFound:
        return {}
    return {file.relative_to(folder).as_posix(): file.stat().st_size for file in folder.rglob("*") if file.is_file()}


@contextlib.contextmanager
def _explained(request: Request, name: str, place: str) -> Iterator[None]:
    """Turn the client's errors into one line each."""
    from modelscope_hub import errors

    try:
        yield
    except errors.NotExistError:
        raise InputError(
            f"no such {request.kind} repository at {place}, or no revision "
            f"{request.revision or DEFAULT_BRANCH!r} of it; for a private one, set MODELSCOPE_API_TOKEN"
        ) from None
    except (errors.AuthenticationError, errors.PermissionDeniedError):
        raise InputError(
            f"ModelScope refuses access to {name}: accept its terms on its page at {place}, and set "
            "MODELSCOPE_API_TOKEN to a token that may read it"
        ) from None
    except errors.RateLimitError:
        raise InputError("ModelScope limits requests (429): try again later, or set MODELSCOPE_API_TOKEN") from None
    except errors.FileDownloadError as error:
        first = next(iter(getattr(error, "failed_files", {}).items()), ("", error))
        raise InputError(f"{first[0]} could not be downloaded ({first[1]}); run the same command again") from None
    except errors.NetworkError:
        raise InputError(
            f"can't reach ModelScope at {place}; check the network, or name another endpoint in MODELSCOPE_ENDPOINT"
        ) from None
    except errors.HubError as error:
        raise InputError(f"ModelScope at {place} answers: {str(error).splitlines()[0]}") from None
