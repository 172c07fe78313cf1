"""Adapters on the Hugging Face hub: `hf://OWNER/NAME[@REVISION]` becomes a folder; and what can go wrong there."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from softprompt.provenance.origin import ORIGIN
from softprompt.runtime.errors import InputError
from softprompt.runtime.guard import disk_is_full
from softprompt.runtime.outputs import MANIFEST, faults_in
from softprompt.runtime.text import is_text

SCHEME = "hf://"
NAME = re.compile(r"[\w.-]+/[\w.-]+")
TOKEN = re.compile(r"[!-~]*")  # what a header takes
ADDRESS = re.compile(rf"{SCHEME}(?P<name>{NAME.pattern})(?:@(?P<revision>\S+))?")
CARD = "README.md"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", ORIGIN)
REPORT_FILES = ("report.html", "report.md")
# All that `softprompt push` writes, and all that is fetched: no pickled weights, no code.
PUBLISHED = (*ADAPTER_FILES, CARD, *REPORT_FILES, MANIFEST)


def wants_network(words: list[str]) -> bool:
    """Whether a command line names the hub: no other command reaches it."""
    return words[:1] == ["push"] or any(SCHEME in word for word in words)


def adapter_folder(place: str) -> Path:
    """The folder that --adapter names, in the file system or on the hub.

    Raises:
        InputError: as `fetched`.
    """
    return fetched(place) if place.startswith(SCHEME) else Path(place).resolve()


def fetched(address: str) -> Path:
    """The adapter at `address`, in a cache; a commit that is there is not asked for again.

    The cache is apart from the hub's own, where a snapshot holds whatever other programs have fetched of a repository,
    pickled weights too: this folder has to be what its manifest says.

    Raises:
        InputError: if there is no such repository or revision, it holds no adapter, or a damaged one; if it can't be
            reached and the cache hasn't got it.
    """
    if (match := ADDRESS.fullmatch(address)) is None or not is_text(address):
        raise InputError(f"{address!r} is no address of an adapter; allowed: hf://OWNER/NAME, hf://OWNER/NAME@REVISION")
    from huggingface_hub import constants, snapshot_download

    with explained(address, "read"):
        folder = Path(
            snapshot_download(
                match["name"],
                revision=match["revision"],
                allow_patterns=list(PUBLISHED),
                cache_dir=Path(constants.HF_HOME) / "softprompt",
            )
        )
    if lacking := [name for name in (MANIFEST, *ADAPTER_FILES) if not (folder / name).is_file()]:
        raise InputError(
            f"{address} is no adapter that softprompt push wrote: it has no {', '.join(lacking)}; name another "
            "repository (pickled weights are never fetched)"
        )
    if faults := faults_in(folder):
        shutil.rmtree(folder.parents[1])  # of this repository, all that the cache has
        raise InputError(
            *(fault.replace(f"{folder}/", f"{address}: ") for fault in faults),
            "it was removed from the cache: run the same command again; if that changes nothing, the repository was "
            "changed by something else than softprompt push",
        )
    return folder


@contextlib.contextmanager
def explained(address: str, right: str) -> Iterator[None]:
    """Turn the client's errors into one line each, and let it say nothing else. No line has what it logs in with.

    Args:
        address: the repository's, with its revision where one is named.
        right: what the token has to allow: "read" or "write".

    Raises:
        InputError: in place of these errors, and if HF_TOKEN can be no token.
    """
    import httpx2
    from huggingface_hub.errors import LocalEntryNotFoundError
    from huggingface_hub.utils import disable_progress_bars, logging

    if TOKEN.fullmatch(os.environ.get("HF_TOKEN", "").strip()) is None:
        raise InputError(
            "HF_TOKEN has a character that no token has; allowed: ASCII letters, digits and signs; set it to a token, "
            "or unset it"
        )
    disable_progress_bars()  # an adapter is small
    logging.set_verbosity_error()
    try:
        yield
    except (OSError, RuntimeError, ValueError, httpx2.HTTPError) as error:
        if disk_is_full(error) or getattr(error, "filename", None):
            raise
        # What the hub has said is wrapped where the cache has nothing to put in its place, and where a file is sent.
        is_lacking = isinstance(error, LocalEntryNotFoundError)
        cause = error.__cause__ if is_lacking or isinstance(error, RuntimeError) else error
        raise InputError(f"{address} {_fault(cause or error, right, is_lacking)}") from None


def _fault(error: BaseException, right: str, is_lacking: bool) -> str:
    """What is wrong and what to do; `is_lacking`: the cache hasn't got it either."""
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    hub, log_in = constants.ENDPOINT, "log in (hf auth login) or set HF_TOKEN"
    neither = ", and is not in the cache" if is_lacking else ""
    match error:
        case HFValidationError():
            fault = "is no name of a repository; allowed: letters, digits, and single -, _ or . between them"
        case GatedRepoError():
            fault = f"is gated: accept its terms at {hub}, then {log_in}"
        case RepositoryNotFoundError():
            fault = f"is no model repository at {hub}, or a private one: check the name; for a private one, {log_in}"
        case RevisionNotFoundError():
            fault = "has no such revision: name a commit, a tag or a branch of it"
        case HfHubHTTPError(response=response) if response.status_code in (401, 403):
            fault = f"is refused by the hub ({response.status_code}): {log_in}, with a token that may {right} it"
        case HfHubHTTPError(response=response) if response.status_code == 429:
            fault = f"is asked for too often (429): try again later, or {log_in}"
        case HfHubHTTPError(response=response) if response.status_code == 412:
            fault = "has changed meanwhile; run the same command again"
        case HfHubHTTPError(response=response):
            advice = "try again later" if response.status_code >= 500 else "check the name and the revision"
            fault = f"failed: the hub at {hub} answers {response.status_code}; {advice}"
        case OfflineModeIsEnabled():
            fault = f"can't be reached offline (HF_HUB_OFFLINE){neither}; unset it"
        case ConnectionError():  # hf_xet's own
            fault = (
                f"failed: the storage of {hub} can't be reached; where it has no Xet storage, set HF_HUB_DISABLE_XET=1"
            )
        case httpx2.HTTPError():
            reach = f"can't be reached at {hub} ({type(error).__name__}){neither}"
            fault = f"{reach}: check the network, or name a mirror in HF_ENDPOINT"
        case _:
            fault = f"failed: {(str(error).splitlines() or [''])[0]}; run the same command again"
    return fault
