"""Experiments by the name that they share: found again by their settings, or run beside the workspace, through DVC.

Nothing of another's is touched: DVC's queue is not used, names that are taken stay, and nothing is removed.
"""

import functools
import itertools
import operator
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softprompt.provenance.code import CODE
from softprompt.provenance.graph import flat, links, parse_yaml, read_yaml
from softprompt.runtime.errors import InputError
from softprompt.runtime.paths import LOCAL_SOURCES
from softprompt.runtime.secrets import redacted

NOT_DONE = ("Failed", "Queued", "Running")  # DVC shows their baseline's metrics as if they were theirs
UNKNOWN = ("", "-", None)
LOGS = Path(".dvc/tmp/sweeps")
PARAMS = "params.yaml"


@dataclass(frozen=True)
class Experiment:
    """One experiment of the commit that is checked out.

    Attributes:
        name: as in `dvc exp show`.
        revision: its commit.
        state: "Success", "Failed", "Queued", "Running", or None for one that did not come out of the queue.
        params: those of params.yaml, by dotted name; a number is a float.
        metrics: its metrics' numbers, by name.
    """

    name: str
    revision: str
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

    keys = {key for key, _ in flat(dvc.api.params_show(PARAMS))}
    found = []
    for row in dvc.api.exp_show():
        if number := re.fullmatch(rf"{re.escape(name)}-(\d+)", row["Experiment"] or ""):
            values = {key: None if value in UNKNOWN else value for key, value in row.items()}
            params = {key: value for key, value in values.items() if key in keys}
            metrics = {key: value for key, value in values.items() if key not in keys and isinstance(value, float)}
            one = Experiment(row["Experiment"], row["rev"], values["State"], params, metrics)
            found.append((int(number[1]), one))
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
    """Refuse a folder in which DVC can't run experiments beside the workspace.

    It writes the folder's path as ASCII, and takes it for a part of a URL.

    Raises:
        InputError: with the characters that are to blame.
    """
    here = str(Path.cwd())
    if culprits := re.findall(r"[^\x00-\x7f]|[#?]|%[0-9A-Fa-f]{2}", here):
        shown = " ".join(dict.fromkeys(culprits))
        raise InputError(
            f"{here}: DVC can't run experiments beside a workspace with {shown} in its path; move the project into "
            "one with a plainer path, or run them one by one: dvc exp run -S …"
        )


class Runs:
    """Runs of one name, for which `stage` is the last stage.

    Several may be asked for at once, from threads.
    """

    def __init__(self, name: str, stage: str) -> None:
        self.name, self.stage = name, stage
        self._found = experiments(name)
        self._taken = {experiment.name for experiment in self._found}
        self._starting = threading.Lock()
        self._workspace = _workspace()

    def name_for(self, overrides: Sequence[str]) -> tuple[str, bool]:
        """The name of the experiment with these overrides, and whether it is done already.

        One that is done counts if it has the same params, and was made of the same code and data.
        """
        params = params_with(overrides)
        for run in self._found:
            if (
                run.done
                and _yaml_of(run.revision, PARAMS) == params
                and self._is_of_the_workspace(run.revision, params)
            ):
                return run.name, True
        number = next(n for n in range(1, len(self._taken) + 2) if f"{self.name}-{n}" not in self._taken)
        self._taken.add(f"{self.name}-{number}")
        return f"{self.name}-{number}", False

    def run(self, name: str, overrides: Sequence[str]) -> str | None:
        """Run an experiment under a name of `name_for`; return what went wrong, or None."""
        LOGS.mkdir(parents=True, exist_ok=True)
        log, settings = LOGS / f"{name}.log", [part for change in overrides for part in ("-S", change)]
        command = ["dvc", "--wait-for-lock", "exp", "run", "--temp", "--name", name, *settings, self.stage]
        begin = []
        # DVC copies the workspace when an experiment starts, by way of a place that all who start share: one at a time.
        with self._starting:
            if _workspace() != self._workspace:
                return "was not started, since the workspace was changed meanwhile; the same command runs it"
            print(f"{name}: {redacted(shlex.join(overrides))}; its log: {log}", flush=True)
            process = subprocess.Popen(
                command,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert process.stdout
            for line in process.stdout:
                begin.append(line)
                if line.startswith("Reproducing experiment"):
                    break
        with process, log.open("w", encoding="utf-8", buffering=1) as file:
            for line in itertools.chain(begin, process.stdout):
                file.write(line)
        return f"is not done; its log: {log}" if process.returncode else None

    def _is_of_the_workspace(self, revision: str, params: Mapping[str, Any]) -> bool:
        lock, here = _yaml_of(revision, "dvc.lock")["stages"], read_yaml(Path("dvc.lock"))["stages"]
        same_code = not subprocess.call(["git", "diff", "--quiet", revision, "--", "dvc.yaml", *CODE])
        return same_code and _local(lock) == _local(here) and _is_up_to_date(lock, self.stage, params)


def grid(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of each experiment of `dvc exp run --queue -S …`, in DVC's order.

    Raises:
        InputError: if DVC does not take them.
    """
    # DVC's own, though not in dvc.api, which has nothing of the kind: a sweep means here what it means in its queue.
    from dvc.utils.hydra import get_hydra_sweeps
    from hydra.errors import HydraException

    try:
        return [changes[PARAMS] for changes in get_hydra_sweeps({PARAMS: list(overrides)})]
    except HydraException as error:
        raise InputError(f"-S: {error}") from None


def params_with(overrides: Sequence[str]) -> Any:
    """params.yaml as an experiment with `overrides` has it."""
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides  # DVC's own, as above

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(PARAMS, folder))
        try:
            apply_overrides(copy, list(overrides))
        except DvcException as error:
            raise InputError(f"-S {shlex.join(overrides)}: {error}: {error.__cause__}") from None
        return read_yaml(copy)


def _is_up_to_date(lock: Mapping[str, Any], stage: str, params: Any) -> bool:
    """Whether `lock` has `stage` with these params and with the inputs that it has for the stages before it.

    An experiment that ran fewer stages has the others as they were before.
    """
    found = list(links(lock, stage))
    if stage not in lock or not all(is_same for *_, is_same in found):
        return False
    return all(
        functools.reduce(operator.getitem, key.split("."), params) == value
        for name in {stage, *(writer for _, _, writer, _ in found)}
        for key, value in lock[name].get("params", {}).get(PARAMS, {}).items()
    )


def _local(lock: Mapping[str, Any]) -> set[tuple[str, str]]:
    """The user's own files, as the stage `local_sources` has noted them."""
    deps = [dep for entry in lock.values() for dep in entry.get("deps", [])]
    return {(dep["path"], dep["md5"]) for dep in deps if Path(dep["path"]).parent == LOCAL_SOURCES}


def _workspace() -> str:
    """What git sees of the workspace, as one hash; nothing is changed by it."""
    # In a copied repository every file looks changed at first, and git makes no copy without saying why.
    subprocess.run(["git", "update-index", "-q", "--refresh"], capture_output=True, check=False)
    made = subprocess.run(["git", "stash", "create"], capture_output=True, text=True, check=False)
    if made.returncode:
        raise InputError(f"git can't take a copy of the workspace, as in the middle of a merge: {made.stderr}")
    state = made.stdout.strip() or "HEAD"
    return subprocess.check_output(["git", "rev-parse", "HEAD", f"{state}^{{tree}}"], text=True)


@functools.cache  # a commit stays as it is
def _yaml_of(revision: str, name: str) -> Any:
    return parse_yaml(subprocess.check_output(["git", "show", f"{revision}:./{name}"]))


def dvc(*arguments: str) -> None:
    """Run a command of DVC, which says itself what it does and what is wrong.

    Raises:
        InputError: if it fails.
    """
    if subprocess.call(["dvc", *arguments]):
        raise InputError(f"dvc {' '.join(arguments[:2])} failed, see above")
