"""Kills: of a stage, of DVC, of an experiment."""

import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.clones import call, environment
from tests.toy import write_params


def start_training(clone: Path, *command: str) -> tuple[subprocess.Popen, psutil.Process]:
    """A command that trains for long, once it has saved a checkpoint: DVC and the stage.

    DVC runs a stage in $SHELL, and in /bin/sh where it is not set, as in many a CI; that may be one that stays.
    """
    plain = {**environment(), "SHELL": "/bin/sh"}
    dvc = subprocess.Popen(command, cwd=clone, env=plain, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(clone.glob(".resume/*/checkpoint-*")):
        assert time.monotonic() < deadline
        assert dvc.poll() is None
        time.sleep(0.01)
    children = psutil.Process(dvc.pid).children(recursive=True)
    return dvc, next(child for child in children if "stages.train" in child.cmdline())


@pytest.mark.parametrize("victim", ["stage", "dvc"])
def test_after_sigkill_the_next_make_repro_goes_on(clone: Path, victim: str) -> None:
    steps = {"stage": 300, "dvc": 301}[victim]  # equal ones would come out of DVC's run cache
    write_params(clone, **{"train.max_steps": steps})
    dvc, stage = start_training(clone, "dvc", "repro")
    (stage if victim == "stage" else psutil.Process(dvc.pid)).kill()
    dvc.wait(timeout=60)
    stage.wait(timeout=10)  # no orphan goes on training
    assert not (clone / "models/adapter").exists()
    assert "goes on from" in call(clone, "make repro")
    assert not (clone / ".resume").exists()
    killed = (clone / "dvc.lock").read_bytes()
    call(clone, "dvc repro --force --single-item train")
    assert (clone / "dvc.lock").read_bytes() == killed, "as if nothing had been killed"
    left = [path.name for path in (clone / "models").iterdir()]
    assert sorted(left) == ["adapter", "base", "local"]


def test_a_killed_experiment_goes_on_though_its_workspace_is_gone(clone: Path) -> None:
    """Its checkpoints are in the main repository, where the next run of the same experiment finds them."""
    command = "dvc exp run --temp -S train.max_steps=302"
    dvc, stage = start_training(clone, *command.split())
    assert stage.cwd() != str(clone)
    psutil.Process(dvc.pid).kill()
    dvc.wait(timeout=60)
    stage.wait(timeout=10)
    call(clone, "rm -rf .dvc/tmp/exps/standalone/*")
    output = call(clone, command)
    assert "goes on from" in output
    assert f"{clone}/.resume" in output
    assert not (clone / ".resume").exists(), "a complete run leaves no checkpoint"
