"""`softprompt verify`: results here and those of a revision: the same bytes, the same but for rounding, or not."""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from softprompt.cli.loading import enter_repository
from softprompt.cli.lock import tree_of
from softprompt.evaluation.names import difference_names, measured
from softprompt.evaluation.recorded import METRICS, TRAIN_METRICS, TrainMetrics, checked
from softprompt.provenance.graph import read_yaml, single_keys
from softprompt.runtime.errors import InputError
from softprompt.sources.local import WATCHED

LOCK = Path("dvc.lock")
# What these compute in floating point rounds by the kind of CPU; what follows from it may differ too.
ROUNDED = ("train", "evaluate")


def verify(
    revision: Annotated[str, typer.Argument(help="An experiment, branch, tag or commit.")] = "HEAD",
    *,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Nats per token by which a loss may differ where the CPU is of another kind.")
    ] = 0.02,
) -> None:
    """Hold the results here against those of a revision.

    dvc.lock and the small metrics files are compared. Code, params and the outputs up to tokenize have to be the same
    to the last bit; the later ones too on the same kind of CPU. On another kind sums round otherwise: then the losses
    have to agree within the tolerance, and it is said that they do.

    Exit status 1 where anything else differs: dvc.lock of the revision is not what its code gives.
    """
    enter_repository()
    with tempfile.TemporaryDirectory(prefix="softprompt-") as scratch:
        there = tree_of(revision, Path(scratch), files=(LOCK, METRICS, TRAIN_METRICS))
        faults, rounded = differences(there, Path())
        if faults:
            hint = f"run make repro where {revision} was made, and commit dvc.lock and results/"
            raise InputError(*(f"{revision}: {fault}" for fault in faults), hint)
        if not rounded:
            print(f"{revision}: the same bytes")
            return
        try:
            name, largest = max(loss_differences(there, Path()).items(), key=lambda pair: pair[1])
        except InputError as error:
            raise InputError(str(error).replace(f"{there}/", f"{revision}:")) from None
    outs = ", ".join(rounded)
    if not largest <= tolerance:
        raise InputError(
            f"{revision}: not the same result: {name} differs by {largest:.6f} nats per token, more than rounding does "
            f"(allowed: {tolerance:g}); other bytes in {outs}"
        )
    print(
        f"{revision}: the same but for rounding, as on another kind of CPU: no loss differs by more than {largest:.6f} "
        f"nats per token (allowed: {tolerance:g}); other bytes in {outs}"
    )


def differences(there: Path, here: Path) -> tuple[list[str], list[str]]:
    """How the dvc.lock in `here` differs from the one in `there`: faults, and outputs whose bytes may differ."""
    was, now = (read_yaml(root / LOCK)["stages"] for root in (there, here))
    faults, rounded = list[str](), set[str]()
    for stage in was | now:
        if stage not in was or stage not in now:
            faults.append(f"dvc.lock has {'no stage' if stage not in was else 'a stage'} {stage}, here it is otherwise")
            continue
        read, reads = _inputs(was, stage), _inputs(now, stage)
        if changed := [name for name in read | reads if read.get(name) != reads.get(name)]:
            faults.append(f"{stage} was made with another {', '.join(changed)}")
            continue
        before, after = (_hashes(lock[stage].get("outs", [])) for lock in (was, now))
        changed = [path for path in after if before.get(path) != after[path]]
        if stage in ROUNDED or not rounded.isdisjoint(_hashes(now[stage].get("deps", []))):
            rounded |= set(changed)
        else:
            faults += [f"{stage} gives another {path} here" for path in changed]
    return faults, sorted(rounded)


def loss_differences(there: Path, here: Path) -> dict[str, float]:
    """Absolute difference, in nats per token, of each loss that the small metrics files have.

    Raises:
        InputError: if a file is missing or damaged, or they have other baselines.
    """
    before, after = _losses(there), _losses(here)
    if others := [name for name in before | after if name not in before or name not in after]:
        raise InputError(f"only one of both results has {', '.join(others)}; make it with: dvc repro evaluate")
    return {name: abs(before[name] - after[name]) for name in before}


def _inputs(lock: dict[str, Any], stage: str) -> dict[str, Any]:
    """Command, code, own files and params of `stage`; what other stages have written follows from theirs.

    Of the folders of local files no file counts that no source names: `local_sources` writes those that do.
    """
    written = {out["path"] for entry in lock.values() for out in entry.get("outs", [])}
    apart = written | {folder.as_posix() for folder in WATCHED}
    deps = {path: digest for path, digest in _hashes(lock[stage].get("deps", [])).items() if path not in apart}
    declared = [item for file in lock[stage].get("params", {}).values() for item in file.items()]
    params = {key: value for name, group in declared for key, value in single_keys(name, group)}
    return {"command": lock[stage]["cmd"], **deps, **params}


def _hashes(entries: list[dict[str, Any]]) -> dict[str, str]:
    return {entry["path"]: entry["md5"] for entry in entries}


def _losses(root: Path) -> dict[str, float]:
    metrics, trained = checked(root / METRICS), checked(root / TRAIN_METRICS, TrainMetrics, "train")
    losses = {f"{variant}.loss": metrics[variant]["loss"] for variant in measured(metrics)}
    return {"validation": trained["validation"], **losses} | {
        name: metrics[name]["mean"] for name in difference_names(metrics)
    }
