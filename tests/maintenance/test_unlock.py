"""`make unlock` clears what a kill of DVC left, and nothing of what lives; with real processes of DVC."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from softprompt.maintenance.running import is_dvc
from tests.clones import call, environment, wait
from tests.toy import ROOT

UNLOCK = f"PYTHONPATH={shlex.quote(str(ROOT))} python -m softprompt.maintenance.unlock"


@contextmanager
def running(cwd: Path, code: str) -> Iterator[subprocess.Popen]:
    """A Python process in `cwd`, once it has run `code`."""
    command = [sys.executable, "-c", f"{code}; import time; print('ready', flush=True); time.sleep(60)"]
    process = subprocess.Popen(command, cwd=cwd, env=environment(), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()


def processes_in(folder: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cwd"])
        if process.info["cwd"] and Path(process.info["cwd"]).is_relative_to(folder)
    ]


def test_a_task_of_the_queue_that_lives_is_left_and_a_killed_one_shown_as_failed(repository: Path) -> None:
    experiments = repository / ".dvc/tmp/exps"
    text = (repository / "dvc.yaml").read_text(encoding="utf-8").replace("mkdir -p out", "touch begun && sleep 60")
    (repository / "dvc.yaml").write_text(text, encoding="utf-8")
    call(repository, "git commit -qam slow && dvc exp run -q --queue --name task -S number=2")
    call(repository, "dvc queue start > .dvc/tmp/queue.log 2>&1")  # a worker would hold the pipe
    try:
        wait(lambda: list(experiments.glob("tmp*/begun")))
        said = call(repository, UNLOCK, ok=False)
        assert "error: DVC or a stage runs here (PID " in said
        assert "exp queue-worker" in said
        assert "dvc queue stop" in said
        assert list(experiments.glob("tmp*/begun"))
        assert "Running" in call(repository, "dvc queue status")
        for process in processes_in(repository):
            if is_dvc(process.cmdline()):
                process.kill()
        # What the stage started lives on, in the temporary workspace.
        wait(lambda: not any(is_dvc(process.cmdline()) for process in processes_in(repository)))
        assert "sleep 60" in call(repository, UNLOCK, ok=False)
        assert list(experiments.glob("tmp*/begun"))
    finally:
        for process in processes_in(repository):
            process.kill()
    wait(lambda: not processes_in(repository))
    assert "Running" in call(repository, "dvc queue status"), "what DVC leaves behind"
    assert "task: killed; the queue shows it as failed" in call(repository, UNLOCK)
    assert not list(experiments.glob("tmp*"))
    assert "Failed" in call(repository, "dvc queue status")
    kept = call(repository, "git rev-parse refs/exps/celery/failed").strip()
    assert "number: 2" in call(repository, f"git show {kept}:params.yaml"), "what it was to run with"
    assert "nothing to repair" in call(repository, UNLOCK)
    call(repository, "dvc queue remove --failed")


def test_what_a_killed_experiment_holds_alone_is_kept(repository: Path) -> None:
    """As DVC leaves it where it dies after it emptied the workspace, and before it put the experiment there."""
    (repository / "rows.txt").write_text("of the user\n", encoding="utf-8")
    call(repository, "git add rows.txt && git update-ref refs/exps/12/345/done HEAD")
    own = "refs/exps/exec/EXEC_"
    call(repository, f"git update-ref {own}MERGE $(git stash create) && git update-ref {own}HEAD HEAD")
    call(repository, f"git update-ref {own}BASELINE HEAD && git symbolic-ref {own}BRANCH refs/exps/12/345/done")
    call(repository, "git reset -q --hard && git checkout -q --detach")
    said = call(repository, UNLOCK)
    assert "HEAD: on main again" in said
    assert "git stash show --patch stash@{0}" in said
    assert "of the user" in call(repository, "git stash show --patch stash@{0}")
    assert "refs/exps/12/345/done" in call(repository, "git for-each-ref"), "a finished experiment"
    assert own not in call(repository, "git for-each-ref")
    assert "nothing to repair" in call(repository, UNLOCK)


def test_a_lock_is_stale_where_its_pid_is_not_a_dvc_s(repository: Path) -> None:
    lock = repository / ".dvc/tmp/rwlock"

    def write(pid: int) -> None:
        lock.write_text(json.dumps({"write": {"out": {"pid": pid, "cmd": "dvc repro"}}, "read": {}}), encoding="utf-8")

    with running(repository.parent, "import dvc.lock") as process:
        write(process.pid)
        assert f"(PID {process.pid}: " in call(repository, UNLOCK, ok=False)
        assert lock.exists()
    write(os.getpid())  # used again by something else
    assert "rwlock: removed" in call(repository, UNLOCK)
    lock.write_text('{"write": {', encoding="utf-8")
    assert "rwlock: removed" in call(repository, UNLOCK)
    (repository / ".dvc/tmp/lock").write_text("999999", encoding="utf-8")  # DVC leaves the file; nobody holds it
    assert "nothing to repair" in call(repository, UNLOCK)


def test_dvcs_own_lock_is_held_and_respected(repository: Path, tmp_path: Path) -> None:
    script = tmp_path / "holder.py"  # hidden from a look at command lines
    script.write_text(
        "from pathlib import Path\nfrom dvc.repo import Repo\nfrom softprompt.maintenance.running import alone\n"
        "repo = Repo('repository')\ncontext = alone(repo, 'again')\ncontext.__enter__()\n"
    )
    with running(tmp_path, f"import sys; sys.path.insert(0, {str(ROOT)!r}); exec(open('holder.py').read())"):
        said = call(repository, UNLOCK, ok=False)
        assert f"error: {repository}/.dvc/tmp/lock is held" in said
        assert "Unable to acquire lock" in call(repository, "dvc repro", ok=False), "in DVC's own words"


@pytest.mark.parametrize("where", [".", "more", ".dvc/tmp/exps/tmp123", "../tree"])
def test_dvc_is_seen_in_every_folder_of_the_repository(repository: Path, where: str) -> None:
    """Its subfolders, an experiment's temporary workspace, and its other working trees."""
    if where == "../tree":
        call(repository, "git worktree add -q ../tree")
    (repository / where).mkdir(parents=True, exist_ok=True)
    with running(repository / where, "import dvc.lock") as process:
        assert f"(PID {process.pid}: " in call(repository, UNLOCK, ok=False)
    assert (repository / where).exists()


def test_a_process_of_dvc_is_told_by_its_command() -> None:
    for command in (
        "dvc repro",
        "/usr/bin/python3 /home/me/.venv/bin/dvc exp queue-worker dvc-exp-1@localhost",
        "python -m dvc repro",
        "python -X importtime -mdvc repro",
        "/usr/bin/python3.11 /lib/python3.11/site-packages/dvc/__main__.py exp queue-worker dvc-exp-1@localhost",
        "/usr/bin/python3 /usr/bin/coverage run -m dvc repro",
    ):
        assert is_dvc(command.split())
    for command in ("vim dvc.yaml", "less dvc", "python train.py", "git log -- dvc.lock", "python -m pytest"):
        assert not is_dvc(command.split())
    assert is_dvc(["python", "-c", "from dvc.cli import main; main(['repro'])"])
    assert not is_dvc([])
