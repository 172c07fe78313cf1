"""Where a run keeps its checkpoints, so that the same work, and no other, goes on after a kill.

The folder is `.resume/` of the main repository: DVC names it in `DVC_ROOT` under `dvc repro`, `dvc exp run --temp` and
the queue alike, so an experiment survives the loss of its temporary workspace.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import stages
from stages.params import Params
from stages.workspace.errors import InputError
from stages.workspace.outputs import MANIFEST
from stages.workspace.paths import BASE_MODEL, TOKENIZED

FOLDER = ".resume"
LIBRARIES = ("torch", "transformers", "peft", "accelerate", "numpy", "safetensors", "datasets")


def key_of_the_run(params: Params) -> str:
    """Hash of all that the trained prompt depends on: params, model and data bytes, code, versions of libraries."""
    read = {
        "seed": params.seed,
        "threads": params.threads,
        "device": params.device,
        "dtype": params.model.dtype,
        "train": params.train.model_dump(exclude={"save_every"}),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }
    digest = hashlib.sha256(json.dumps(read, sort_keys=True).encode())
    code = Path(stages.__path__[0])
    for file in (BASE_MODEL / MANIFEST, TOKENIZED / MANIFEST, *sorted(code.rglob("*.py"))):
        name = file.relative_to(code).as_posix() if file.is_relative_to(code) else file.as_posix()
        digest.update(f"\n{name} {hashlib.sha256(file.read_bytes()).hexdigest()}".encode())
    return digest.hexdigest()[:32]


@contextlib.contextmanager
def checkpoint_folder(key: str) -> Iterator[Path]:
    """The folder of the run's checkpoints, held alone; removed when the run is complete.

    A killed or interrupted run leaves it, one that refuses its params doesn't; a second run of the same work waits here
    for the first.
    """
    folder = Path(os.environ.get("DVC_ROOT", ".")) / FOLDER / key
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
    """Print that checkpoints of other runs lie beside `folder`, where some do."""
    if others := sum(1 for run in folder.parent.iterdir() if run != folder):
        print(
            f"train: {folder.parent} holds checkpoints of {others} other run(s), of other params, data, code or model; "
            "they are not used",
            flush=True,
        )


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
