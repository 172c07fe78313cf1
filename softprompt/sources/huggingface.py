"""`hf://OWNER/NAME` or `hf://OWNER/NAME#MEMBER`: a repository of the Hugging Face hub, through `huggingface_hub`.

Its own settings apply: HF_ENDPOINT (a mirror), HF_TOKEN, HF_HUB_OFFLINE, HF_HOME (the shared cache). A broken download
goes on where it broke off.
"""

import contextlib
import glob
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from softprompt.runtime.errors import InputError
from softprompt.runtime.guard import disk_is_full
from softprompt.sources.repository import (
    HEADER,
    check_configuration,
    check_space,
    found,
    header_of,
    missing_shards,
    needed,
    parse,
    parts,
    remember_rows,
    rows_at,
    tell_if_moved,
)
from softprompt.sources.request import Files, Request

PATIENCE = (1, 2, 4, 8, 16)  # seconds between tries where the hub is busy; it may ask for others
LONGEST_WAIT = 60
BUSY = (429, 500, 502, 503, 504)


def fetch(request: Request) -> Files:
    """The files of one revision that are needed, in the shared cache; each has the bytes that the hub lists.

    Raises:
        InputError: if there is no such repository or revision, access is refused, the hub can't be reached and the
            cache hasn't got them, or there is no room.
    """
    import httpx2
    from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import OfflineModeIsEnabled

    name, member = parse(request)
    kind = request.kind
    with _explained(request, name):
        try:
            info: Any = _patiently(
                lambda: HfApi().repo_info(name, repo_type=kind, revision=request.revision, files_metadata=True)
            )
        except (OfflineModeIsEnabled, httpx2.TransportError) as error:
            return _cached(request, name, member, error)
        listed = {entry.rfilename: entry for entry in info.siblings}
        download = partial(snapshot_download, name, repo_type=kind, revision=request.revision)
        header = None
        for file in header_of(request, member, listed):
            header = Path(_patiently(partial(download, allow_patterns=[file]))) / file
        rows: dict[str, int | None] = {}

        def rows_of(file: str) -> int | None:
            return rows.setdefault(file, _rows_of(f"datasets/{name}@{info.sha}", file))

        chosen, elsewhere = needed(request, member, listed, header, rows_of)
        missing = {
            file: listed[file].size or 0
            for file in chosen
            if not isinstance(try_to_load_from_cache(name, file, revision=info.sha, repo_type=kind), str)
        }
        check_space(Path(constants.HF_HUB_CACHE), missing, request)
        for part in parts(request, chosen):
            # By its own name, so that the cache knows what the branch was.
            exactly = [glob.escape(file) for file in part]
            folder = Path(_patiently(partial(download, allow_patterns=exactly)))
            if folder.name != info.sha:
                raise InputError("the branch moved while it was fetched; run the same command again")
            if missing.keys() & set(part):
                _check(name, kind, folder, part)
            check_configuration(request, folder, chosen)
    tell_if_moved(request, info.sha)
    remember_rows(info.sha, {file: count for file, count in rows.items() if count is not None})
    return found(request, folder, chosen, elsewhere, {"revision": request.revision, "commit": info.sha})


def _cached(request: Request, name: str, member: str | None, why: Exception) -> Files:
    """What earlier fetches of the same revision left in the shared cache, if all that is needed is there."""
    from huggingface_hub import get_cached_repo_tree, snapshot_download
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, LocalEntryNotFoundError

    local = partial(snapshot_download, name, repo_type=request.kind, local_files_only=True)
    try:
        folder = Path(local(revision=request.revision, allow_patterns=[]))
    except LocalEntryNotFoundError:
        raise _out_of_reach(["it"], why) from None
    here = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    try:
        names = {entry.path for entry in get_cached_repo_tree(name, repo_type=request.kind, revision=folder.name)}
        listed = True
    except CachedRepoTreeNotFoundError:  # the files were brought by something that keeps no list of all there are
        names, listed = here, False
    headers = header_of(request, member, names)
    if lacking := sorted(set(headers) - here):
        raise _out_of_reach(lacking, why)
    header = folder / HEADER if headers else None
    chosen, elsewhere = needed(request, member, names, header, rows_at(folder.name).get if listed else None)
    named_alone = member is not None and not glob.has_magic(member)
    if lacking := sorted(set(chosen) - here) or ([] if listed or named_alone else missing_shards(chosen)):
        raise _out_of_reach(lacking, why)
    check_configuration(request, folder, chosen)
    unlisted = "" if listed else f", which has no list of what the repository holds: {len(chosen)} files"
    print(f"{request.key}: {request.source}: the hub is out of reach; taken from the cache{unlisted}", flush=True)
    return found(request, folder, chosen, elsewhere, {"revision": request.revision, "commit": folder.name})


def _out_of_reach(lacking: list[str], why: Exception) -> InputError:
    """What is wrong where the hub is out of reach, and the cache lacks files."""
    from huggingface_hub import constants

    more = f" and {len(lacking) - 3} more files" if len(lacking) > 3 else ""
    missing = f"{', '.join(lacking[:3])}{more} {'is' if len(lacking) == 1 else 'are'} not in the cache"
    if constants.is_offline_mode():
        return InputError(f"offline (HF_HUB_OFFLINE), and {missing}; unset HF_HUB_OFFLINE and fetch it once")
    return InputError(
        f"can't reach the hub at {constants.ENDPOINT} ({type(why).__name__}), and {missing}; check the network, or "
        "name a mirror in HF_ENDPOINT"
    )


def _rows_of(repository: str, file: str) -> int | None:
    """How many rows a parquet file has: its last bytes say so; None where they don't, which reading it will explain."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from huggingface_hub import HfFileSystem

    def read() -> int | None:
        with HfFileSystem().open(f"{repository}/{file}", block_size=1 << 16) as opened:
            try:
                return int(pq.read_metadata(opened).num_rows)
            except pa.ArrowException:
                return None
            except OSError as error:
                if "thrift" not in str(error):  # Arrow's own word for bytes that are no metadata
                    raise
                return None

    return _patiently(read)


def _patiently(call: Callable[[], Any]) -> Any:
    """`call`, again where the hub is busy or broken for a moment; it may say for how long."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    for wait in PATIENCE:
        try:
            return call()
        except (HfHubHTTPError, LocalEntryNotFoundError) as error:
            answer = error if isinstance(error, HfHubHTTPError) else error.__cause__
            if not isinstance(answer, HfHubHTTPError) or answer.response.status_code not in BUSY:
                raise
            asked = answer.response.headers.get("Retry-After", "")
            seconds = int(asked) if asked.isdecimal() else wait
            if seconds > LONGEST_WAIT:
                raise
            print(f"the hub answers {answer.response.status_code}; trying again in {seconds} s", flush=True)
            time.sleep(seconds)
    return call()


@contextlib.contextmanager
def _explained(request: Request, name: str) -> Iterator[None]:
    """Turn the client's errors into one line each."""
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = f"{constants.ENDPOINT}/{'datasets/' if request.kind == 'dataset' else ''}{name}"
    try:
        yield
    except GatedRepoError:
        raise InputError(
            f"gated: accept its terms at {page}, then log in (hf auth login) or set HF_TOKEN to your token"
        ) from None
    except RepositoryNotFoundError:
        raise InputError(
            f"no such {request.kind} repository at {constants.ENDPOINT}, or a private one: check the name; "
            "for a private one, log in (hf auth login) or set HF_TOKEN"
        ) from None
    except RevisionNotFoundError:
        raise InputError(
            f"no revision {request.revision!r}; {request.section}.revision is a commit, a tag or a branch of it: "
            f"{page}/commits"
        ) from None
    except HFValidationError:
        raise InputError(f"{name} is no name of a repository") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == 429:
            asked = error.response.headers.get("Retry-After")
            when = f"in {asked} s" if asked else "later"
            raise InputError(f"the hub limits requests (429): try again {when}, or log in (HF_TOKEN)") from None
        if status in (401, 403):
            raise InputError(f"the hub refuses access ({status}): the token in HF_TOKEN may not read it") from None
        raise InputError(f"the hub at {constants.ENDPOINT} answers {status}; try again later") from None
    except (httpx2.HTTPError, LocalEntryNotFoundError) as error:
        raise InputError(
            f"the connection to {constants.ENDPOINT} broke ({type(error).__name__}); run the same command again: the "
            "download goes on where it broke off"
        ) from None
    except OSError as error:
        if disk_is_full(error):
            raise
        raise InputError(f"the download failed: {str(error).splitlines()[0]}; run the same command again") from None


def _check(name: str, kind: str, folder: Path, files: list[str]) -> None:
    """Refuse a download whose bytes are not those that the hub lists, and remove it from the cache.

    Raises:
        InputError: if they differ.
    """
    from huggingface_hub import HfApi

    found = HfApi().verify_repo_checksums(name, repo_type=kind, revision=folder.name)
    damaged = [fault["path"] for fault in found.mismatches if fault["path"] in files]
    for file in damaged:
        (folder / file).resolve().unlink()
        (folder / file).unlink(missing_ok=True)
    if damaged:
        raise InputError(
            *(
                f"{file} has other bytes than the hub lists; it was removed from the cache: run the same "
                "command again, and if that changes nothing, the hub (or the mirror in HF_ENDPOINT) is at fault"
                for file in damaged
            )
        )
