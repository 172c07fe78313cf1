"""Kills: of a stage, of DVC, of an experiment."""

import shutil
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.clones import call, environment, wait
from tests.toy import write_params


def start_training(clone: Path, *command: str) -> tuple[subprocess.Popen, psutil.Process]:
    """A command that trains for long, once it has saved a checkpoint: DVC and the stage.

    DVC runs a stage in $SHELL, and in /bin/sh where it is not set, as in many a CI; that may be one that stays.
    """
    plain = {**environment(), "SHELL": "/bin/sh"}
    dvc = subprocess.Popen(command, cwd=clone, env=plain, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_checkpoints(clone, 1)
    assert dvc.poll() is None
    children = psutil.Process(dvc.pid).children(recursive=True)
    return dvc, next(child for child in children if "stages.train" in child.cmdline())


def wait_for_checkpoints(clone: Path, runs: int) -> None:
    wait(lambda: len({path.parent for path in clone.glob(".resume/*/checkpoint-*")}) >= runs, seconds=120, every=0.01)


def no_process_in(clone: Path) -> bool:
    return not any((process.info["cwd"] or "").startswith(str(clone)) for process in psutil.process_iter(["cwd"]))


@pytest.mark.parametrize("victim", ["stage", "dvc"])
def test_after_sigkill_the_next_run_goes_on(clone: Path, victim: str) -> None:
    steps = {"stage": 120, "dvc": 121}[victim]  # equal ones would come out of DVC's run cache
    write_params(clone, **{"train.max_steps": steps})
    dvc, stage = start_training(clone, "dvc", "repro")
    (stage if victim == "stage" else psutil.Process(dvc.pid)).kill()
    dvc.wait(timeout=60)
    stage.wait(timeout=10)  # no orphan goes on training
    assert not (clone / "models/adapter").exists()
    assert "goes on from" in call(clone, "make repro" if victim == "dvc" else "dvc repro train")
    assert not (clone / ".resume").exists()
    left = [path.name for path in (clone / "models").iterdir()]
    assert sorted(left) == ["adapter", "base", "local"]


def test_a_killed_experiment_goes_on_though_its_workspace_is_gone(clone: Path) -> None:
    """Its checkpoints are in the main repository, where the next run of the same experiment finds them."""
    command = "dvc exp run --temp -S train.max_steps=122 train"
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


def test_unlock_attaches_head_after_a_killed_experiment(clone: Path) -> None:
    dvc, stage = start_training(clone, *["dvc", "exp", "run", "-S", "train.max_steps=123"])
    assert "error: DVC or a stage runs here (PID " in call(clone, "make unlock", ok=False)
    psutil.Process(dvc.pid).kill()
    dvc.wait(timeout=60)
    stage.wait(timeout=10)
    assert call(clone, "git branch --show-current") == "", "what DVC leaves behind"
    output = call(clone, "make unlock")
    assert "HEAD: on main again" in output
    assert "--force" not in output, "nothing that loses work"
    assert call(clone, "git stash list") == "", "the workspace has all that the experiment was to run with"
    assert call(clone, "git branch --show-current").strip() == "main"
    assert "goes on from" in call(clone, "dvc repro train"), "the experiment's params are still there"
    call(clone, "git checkout HEAD . && dvc checkout --force")
    assert "up to date" in call(clone, "dvc status")
    assert "nothing to repair" in call(clone, "make unlock")


def test_unlock_ends_killed_experiments_of_the_queue(clone: Path) -> None:
    """Their checkpoints stay."""
    for steps in (5000, 5001):
        call(clone, f"dvc exp run --queue --name killed-{steps} -S train.max_steps={steps}")
    call(clone, "dvc queue start -j 2 > .dvc/tmp/queue.log 2>&1")  # a worker would hold the pipe
    wait_for_checkpoints(clone, 2)
    of_dvc = [process for process in psutil.process_iter(["cmdline", "cwd"]) if "dvc" in str(process.info["cmdline"])]
    for process in of_dvc:
        if (process.info["cwd"] or "").startswith(str(clone)):
            process.kill()
    wait(lambda: no_process_in(clone), seconds=30, every=0.1)  # no stage goes on as an orphan
    assert call(clone, "dvc queue status").count("Running") == 2, "what DVC leaves behind"
    output = call(clone, "make unlock")
    assert "killed-5000: killed; the queue shows it as failed" in output
    assert "killed-5001: killed; the queue shows it as failed" in output
    assert not list((clone / ".dvc/tmp/exps").glob("tmp*"))
    assert "Running" not in call(clone, "dvc queue status")
    call(clone, "dvc queue remove -q --failed")
    shutil.rmtree(clone / ".resume")
