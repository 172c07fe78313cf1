"""Experiments by the name that they share: queued, run, read and removed, all through DVC."""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.workspace.errors import InputError

NOT_DONE = ("Failed", "Queued", "Running")  # DVC shows their baseline's metrics as if they were theirs
UNKNOWN = ("", "-", None)


@dataclass(frozen=True)
class Experiment:
    """One experiment of the commit that is checked out.

    Attributes:
        name: as in `dvc exp show`.
        state: "Success", "Failed", "Queued", "Running", or None for one that did not come out of the queue.
        params: those of params.yaml, by dotted name; a number is a float.
        metrics: its metrics' numbers, by name.
    """

    name: str
    state: str | None
    params: Mapping[str, Any]
    metrics: Mapping[str, Any]

    @property
    def done(self) -> bool:
        """Whether the metrics are its own."""
        return self.state not in NOT_DONE


def experiments(name: str) -> list[Experiment]:
    """Those named `name`-1, `name`-2, …, in this order."""
    import dvc.api

    keys = set(_flat(dvc.api.params_show("params.yaml")))
    found = []
    for row in dvc.api.exp_show():
        if number := re.fullmatch(rf"{re.escape(name)}-(\d+)", row["Experiment"] or ""):
            values = {key: None if value in UNKNOWN else value for key, value in row.items()}
            params = {key: value for key, value in values.items() if key in keys}
            metrics = {key: value for key, value in values.items() if key not in keys and isinstance(value, float)}
            found.append((int(number[1]), Experiment(row["Experiment"], values["State"], params, metrics)))
    return [experiment for _, experiment in sorted(found, key=lambda pair: pair[0])]


def count(name: str, text: str, of: str) -> int:
    """The number in `text`, the value of make's variable `name`.

    Raises:
        InputError: if it is none, or less than 1; `of` says of what it is the number.
    """
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"{name} is '{text}'; allowed: a number of {of}, at least 1")
    return int(text)


def check_place() -> None:
    """Refuse a folder in which DVC can't run experiments aside from the workspace.

    It writes the folder's path as ASCII, and takes it for a part of a URL.

    Raises:
        InputError: with the characters that are to blame.
    """
    here = str(Path.cwd())
    culprits = re.findall(r"[^\x00-\x7f]|[#?]|%[0-9A-Fa-f]{2}", here)
    if culprits:
        shown = " ".join(dict.fromkeys(culprits))
        raise InputError(
            f"{here}: DVC can't run queued experiments in a folder with {shown} in its path; "
            "move the project into one with a plainer path, or run them one by one: dvc exp run -S …"
        )


def remove(name: str) -> None:
    """Remove the experiments named so. What they computed stays in DVC's cache, where the next run finds it."""
    if earlier := [experiment.name for experiment in experiments(name)]:
        dvc("exp", "remove", "--quiet", *earlier)


def dvc(*arguments: str) -> None:
    """Run a command of DVC, which says itself what it does and what is wrong.

    Raises:
        InputError: if it fails.
    """
    if subprocess.call(["dvc", *arguments]):
        raise InputError(f"dvc {' '.join(arguments[:2])} failed, see above")


def _flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in params.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
