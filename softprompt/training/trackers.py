"""`runtime.trackers`: a run's curves in TensorBoard, Weights & Biases, MLflow or Trackio, by accelerate's trackers.

They get what dvclive gets, and nothing that DVC hashes depends on them. What they write without a server is in
`.trackers/` of the main repository, where their own environment variables name no other place.
"""

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.tracking import GeneralTracker, MLflowTracker, TensorBoardTracker, TrackioTracker, WandBTracker

from softprompt.config import Params
from softprompt.config.faults import known_keys
from softprompt.runtime.errors import InputError
from softprompt.runtime.paths import main_repository
from softprompt.runtime.secrets import redacted
from softprompt.training.saving import Entry

FOLDER, PROJECT = ".trackers", "softprompt"
PACKAGES = {
    "tensorboard": ("tensorboard==2.21.0",),
    "wandb": ("wandb==0.31.0",),
    # MLflow keeps runs in a database by default; without SQLAlchemy and Alembic it can only send them to a server.
    "mlflow": ("mlflow-skinny==3.17.2", "sqlalchemy==2.1.9", "alembic==1.20.1"),
    "trackio": ("trackio==0.43.0",),
}
UNTRACKED = ("general.", "evaluate.", "runtime.")  # sections that no training depends on
SECONDS_TO_FINISH = 60


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers whose packages are not installed.

    Raises:
        InputError: with the command that installs them.
    """
    modules = {"mlflow": ("mlflow", "sqlalchemy", "alembic")}
    missing = [name for name in names if not all(map(importlib.util.find_spec, modules.get(name, (name,))))]
    if missing:
        packages = " ".join(package for name in missing for package in PACKAGES[name])
        raise InputError(f"runtime.trackers: {', '.join(missing)}: not installed; pip install {packages}")


class Trackers:
    """Trackers that run; one that fails is left out from then on, with a warning: it must not cost the training."""

    def __init__(self) -> None:
        self.running: dict[str, GeneralTracker] = {}

    def log(self, entry: Entry) -> None:
        """Record the measurements of `entry` at its `step`."""
        values = {name: value for name, value in entry.items() if name != "step"}
        self._each(lambda tracker: tracker.log(values, step=int(entry["step"])))

    def finish(self, *, failed: bool) -> None:
        """End all of them; `failed`: whether the run is shown as failed, where a tracker shows that."""
        if failed:
            self._each(_end_as_failed)
        self._each(lambda tracker: tracker.finish())
        self.running.clear()

    def _each(self, do: Callable[[GeneralTracker], object]) -> None:
        for name, tracker in [*self.running.items()]:
            try:
                do(tracker)
            except Exception as error:
                del self.running[name]
                print(f"train: {name} records no more of this run: {_in_a_line(error)}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def tracking(params: Params) -> Iterator[Trackers]:
    """The trackers of `runtime.trackers`, started, with the params that training depends on; ended after the block.

    Raises:
        InputError: if one can't start: the training hasn't begun, so nothing is lost.
    """
    trackers = Trackers()
    names = dict.fromkeys(params.runtime.trackers)
    try:
        if names:
            PartialState(cpu=params.device == "cpu")  # accelerate's trackers ask it which process this is
            folder = main_repository().resolve() / FOLDER
            folder.mkdir(exist_ok=True)
        for name in names:
            try:
                tracker = MAKERS[name](folder, os.environ.get("DVC_EXP_NAME"))
                tracker.start()
                trackers.running[name] = tracker
                tracker.store_init_configuration(settings_of(params))
            except Exception as error:
                raise InputError(
                    f"runtime.trackers: {name} can't start: {_in_a_line(error)}; its settings are in docs/trackers.md"
                ) from error
        yield trackers
    except BaseException:
        trackers.finish(failed=True)
        raise
    trackers.finish(failed=False)


def settings_of(params: Params) -> dict[str, Any]:
    """The params that training depends on, by dotted key: texts, numbers and None, with no secret of an address."""
    values = {key: attrgetter(key)(params) for key, _ in known_keys(Params) if not key.startswith(UNTRACKED)}
    plain = (bool, int, float, type(None))
    return {key: value if isinstance(value, plain) else redacted(str(value)) for key, value in values.items()}


def _tensorboard(folder: Path, name: str | None) -> GeneralTracker:
    """A run is a folder; its name has the time, or two runs would be drawn as one."""
    parent = os.environ.get("TENSORBOARD_LOGGING_DIR", folder / "tensorboard")
    begun = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    return TensorBoardTracker(f"{name or 'train'}_{begun}", parent)


def _wandb(folder: Path, name: str | None) -> GeneralTracker:
    os.environ.setdefault("WANDB_DIR", str(folder))
    # A git remote's address may have a token in it, and the console what other libraries print. Without the limit a
    # run that is done would wait for a network that is gone.
    settings = {"disable_git": True, "disable_code": True, "save_code": False, "console": "off"}
    settings |= {"finish_timeout": SECONDS_TO_FINISH}
    return WandBTracker(os.environ.get("WANDB_PROJECT", PROJECT), name=name, settings=settings)


def _mlflow(folder: Path, name: str | None) -> GeneralTracker:
    artifacts = None
    if "MLFLOW_TRACKING_URI" not in os.environ:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        artifacts = (folder / "mlflow").as_uri()
    return MLflowTracker(PROJECT, artifacts, run_name=name)


def _trackio(folder: Path, name: str | None) -> GeneralTracker:
    os.environ.setdefault("TRACKIO_DIR", str(folder / "trackio"))
    return TrackioTracker(PROJECT, name=name)


MAKERS = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow, "trackio": _trackio}


def _end_as_failed(tracker: GeneralTracker) -> None:
    """accelerate's own `finish` knows no failure; after this one it does nothing."""
    if tracker.name == "wandb":
        tracker.tracker.finish(exit_code=1)
    elif tracker.name == "mlflow":
        import mlflow

        mlflow.end_run("FAILED")


def _in_a_line(error: Exception) -> str:
    return redacted(" ".join(str(error).split()) or type(error).__name__)
