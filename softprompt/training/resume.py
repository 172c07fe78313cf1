"""Where a run keeps its checkpoints, so that the same work, and no other, goes on after a kill.

The folder is `.resume/` of the main repository: DVC names it in `DVC_ROOT` under `dvc repro`, `dvc exp run --temp` and
the queue alike, so an experiment survives the loss of its temporary workspace.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from softprompt.provenance.origin import Origin
from softprompt.runtime.errors import InputError
from softprompt.runtime.paths import main_repository

FOLDER = ".resume"


def key_of_the_run(origin: Origin) -> str:
    """Hash of all that the trained prompt depends on."""
    return hashlib.sha256(json.dumps(asdict(origin), sort_keys=True).encode()).hexdigest()[:32]


@contextlib.contextmanager
def checkpoint_folder(key: str) -> Iterator[Path]:
    """The folder of the run's checkpoints, held alone; removed when the run is complete.

    A killed or interrupted run leaves it, one that refuses its params doesn't; a second run of the same work waits here
    for the first.
    """
    folder = main_repository() / FOLDER / key
    held = _hold(folder)
    try:
        yield folder
        _remove(folder)
    except InputError:
        _remove(folder)
        raise
    finally:
        os.close(held)


def tell_of_others(folder: Path) -> None:
    """Print that checkpoints of other runs lie beside `folder`, where some do that no run holds."""
    if others := sum(1 for run in folder.parent.iterdir() if run != folder and not _is_held(run)):
        print(
            f"train: {folder.parent} holds checkpoints of {others} other run(s), of other params, data, code or model; "
            "they are not used",
            flush=True,
        )


def _is_held(folder: Path) -> bool:
    """Whether a run, of an experiment beside this one, has `folder`, or has just removed it."""
    try:
        probe = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(probe)
    return False


def _remove(folder: Path) -> None:
    shutil.rmtree(folder)
    with contextlib.suppress(OSError):  # another run's is there
        folder.parent.rmdir()


def _hold(folder: Path) -> int:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("train: another run is doing the same work; waiting until it ends", flush=True)
            fcntl.flock(held, fcntl.LOCK_EX)
        # The run that was waited for has removed the folder that is held now, if it came to its end.
        if folder.exists() and os.path.samestat(os.fstat(held), folder.stat()):
            return held
        os.close(held)
