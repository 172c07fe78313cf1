"""One of several processes fails, and the others wait for it: all end, and what it has to say is said once."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.distributed.test_launch import TWO, stages_in, start
from tests.toy import write_params

# The stage as it is, but for one failure in the second process. Under NCCL nobody hears of it: the others wait in their
# sum for ever, and so does whoever leaves the group. Here on a CPU, gloo would notice that a process has gone.
STAGE = """
import stages.train
from softprompt.config.stage import run_stage
from softprompt.distributed.launch import launched

def main(params):
    import errno, time
    import torch
    from accelerate import Accelerator
    from softprompt import distributed
    from softprompt.engine.model import SharedPrefixModel

    def for_ever(*_):
        time.sleep(600)

    whole = SharedPrefixModel.token_losses
    def token_losses(self, rows):
        if self.training and distributed.rank() == 1:
            {failure}
        return whole(self, rows)
    SharedPrefixModel.token_losses = token_losses
    {others}
    stages.train.main(params)

if __name__ == "__main__":
    run_stage(launched(main, "failing"))
"""
WAIT = "torch.distributed.destroy_process_group = Accelerator.reduce = for_ever"
MEMORY = "error: out of memory; allowed: half of train.batch_size with twice train.gradient_accumulation_steps"
FULL = "raise OSError(errno.ENOSPC, 'No space left on device', 'a/file')"
FAILURES = {
    "memory": ("torch.empty(2**54)", MEMORY),
    "disk": (FULL, "error: the disk is full (writing a/"),
    "library": ("raise SystemExit(0)", "SystemExit: 0"),
}


def failing(project: Path, failure: str, others: str) -> subprocess.Popen[str]:
    (project / "failing.py").write_text(STAGE.format(failure=failure, others=others), encoding="utf-8")
    write_params(project, **{"train.batch_size": 2, "train.gradient_accumulation_steps": 4, "launcher": TWO})
    return start(project, sys.executable, "-m", "failing")


@pytest.mark.parametrize("name", FAILURES)
def test_processes_that_would_wait_for_ever_end_with_the_one_that_fails(project: Path, name: str) -> None:
    failure, message = FAILURES[name]
    stage = failing(project, failure, WAIT)
    output, errors = stage.communicate(timeout=300)  # half of what the others would wait
    assert stage.returncode == 1, output + errors
    assert errors.count(message) == 1
    assert errors.count("Traceback") == (name == "library")
    assert stages_in(project) == []
    assert not (project / "models/adapter").exists()


@pytest.mark.parametrize(
    ("failure", "message"),
    [("1 / 0", "ZeroDivisionError: division by zero"), FAILURES["disk"]],
)
def test_what_is_said_is_the_cause_and_not_what_follows_from_it(project: Path, failure: str, message: str) -> None:
    """gloo has the first process fail too, for lack of the second."""
    stage = failing(project, failure, "pass")
    _, errors = stage.communicate(timeout=300)
    assert stage.returncode == 1
    assert errors.count(message) == 1, errors
    assert errors.count("Traceback") == (failure != FULL)
    assert not (project / "results/train").exists(), "the first one has cleared away what it wrote"
