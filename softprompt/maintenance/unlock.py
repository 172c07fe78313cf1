"""Repair what a kill of DVC leaves behind: `python -m softprompt.maintenance.unlock` (`make unlock`).

Refuses while DVC or a stage runs in this repository. Removes stale locks, has the queue show experiments that nobody
runs any more as failed, removes their temporary workspaces, and attaches HEAD to its branch again. Checkpoints in
.resume/ and changes in the workspace stay.
"""

import json
import logging
import shutil
import subprocess
from pathlib import Path
from typing import Any

from dvc.lock import make_lock
from dvc.repo import Repo

from softprompt.maintenance.running import EXPERIMENTS, LOCKS, alone, at_work, locked_by
from softprompt.runtime.errors import InputError
from softprompt.runtime.git import git_text
from softprompt.runtime.guard import exit_on_input_error


def main() -> None:
    """Repair, and say what was repaired."""
    with Repo() as repo:
        # Listed before the look at who works here: what a worker of the queue begins later is not among them.
        tasks, folders = _unfinished_tasks(repo), _temporary_workspaces()
        with alone(repo, "make unlock"):
            done = [*_end(repo, tasks), *_remove_stale_locks(repo), *_remove(folders), *_attach_head()]
    for line in done:
        print(line)
    if not done:
        print("nothing to repair")
    elif git_text("status", "--porcelain"):
        print("the workspace keeps its changes: make repro goes on; dvc checkout brings back outputs that DVC deleted")


def _unfinished_tasks(repo: Repo) -> list[Any]:
    """Experiments of the queue that run, or did when they were killed."""
    if not (EXPERIMENTS / "celery").is_dir():
        return []
    logging.disable(logging.WARNING)  # that nobody runs them is known
    # DVC's public `queue.kill` would signal PIDs that are another's by now, and leaves a task whose PID still exists.
    return list(repo.experiments.celery_queue._iter_active_tasks())


def _end(repo: Repo, tasks: list[Any]) -> list[str]:
    """As DVC does with one that fails: what it was to run with stays, in the list of failed ones."""
    for task, entry in tasks:
        repo.experiments.celery_queue.stash_failed(entry)
        task.backend.mark_as_failure(task.id, None)
    hint = "the queue shows it as failed; the same dvc exp run goes on from its checkpoint"
    return [f"{entry.name or entry.stash_rev[:7]}: killed; {hint}" for _, entry in tasks]


def _remove_stale_locks(repo: Repo) -> list[str]:
    """Read-write locks that name somebody, or were half written, though nobody works here."""
    removed = []
    hardlink = repo.config["core"].get("hardlink_lock", False)
    for path in LOCKS:
        if not path.is_file():
            continue
        # DVC's own guard of the file: a worker of the queue that starts now may be about to write it.
        with make_lock(f"{path}.lock", tmp_dir=str(path.parent), hardlink_lock=hardlink):
            pids = locked_by(path)
            if (pids or not _is_json(path)) and not pids & at_work(Path(repo.root_dir)).keys():
                path.unlink()
                removed.append(f"{path}: removed")
    return removed


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def _temporary_workspaces() -> list[Path]:
    """Of experiments that run, or did when they were killed, beside the workspace."""
    return [*EXPERIMENTS.glob("tmp*"), *EXPERIMENTS.glob("standalone/*")]


def _remove(folders: list[Path]) -> list[str]:
    for folder in folders:
        shutil.rmtree(folder)
    return [f"{folder}: removed" for folder in folders]


def _attach_head() -> list[str]:
    """A killed `dvc exp run` leaves HEAD at the commit instead of the branch, and says so in its own refs."""
    own = "refs/exps/exec/"
    listed = git_text("for-each-ref", "--format=%(refname) %(objectname)", own)
    refs = dict(line.split() for line in listed.splitlines())
    begun = refs.get(f"{own}EXEC_HEAD")
    done = _keep(refs.get(f"{own}EXEC_MERGE"))
    for name in ("EXEC_BASELINE", "EXEC_HEAD", "EXEC_MERGE", "EXEC_BRANCH"):
        # Not what it points to: for EXEC_BRANCH that is a finished experiment's own ref.
        git_text("update-ref", "--no-deref", "-d", f"{own}{name}")
    if refs.keys() - {f"{own}EXEC_HEAD", f"{own}EXEC_APPLY"}:  # a finished one leaves these
        done.append("refs of a killed experiment: removed")
    if git_text("symbolic-ref", "--quiet", "HEAD") or not begun or begun != git_text("rev-parse", "HEAD"):
        return done
    branch = git_text("rev-parse", "--symbolic-full-name", "@{-1}")
    if not branch or git_text("rev-parse", branch) != begun:
        return [*done, "HEAD is at a commit, not on a branch: git switch BRANCH"]
    git_text("symbolic-ref", "HEAD", branch)
    return [*done, f"HEAD: on {branch.removeprefix('refs/heads/')} again"]


def _keep(merge: str | None) -> list[str]:
    """DVC empties the workspace before it puts the experiment there: a kill in between leaves them in `merge` alone."""
    if not merge:
        return []
    paths = git_text("diff", "--name-only", "-z", f"{merge}^1", merge, "--", ":(top)", ":(exclude).dvc/tmp").split("\0")
    changed = [f":(top,literal){path}" for path in paths if path and Path(path).name != "dvc.lock"]
    if not changed or subprocess.run(["git", "diff", "--quiet", merge, "--", *changed], check=False).returncode == 0:
        return []
    git_text("stash", "store", "--message", "the workspace of an experiment that was killed", merge)
    if git_text("rev-parse", "refs/stash") != merge:
        raise InputError(f"git can't keep the workspace of a killed experiment in its stash; it is commit {merge}")
    return ["changes that the workspace lacks are kept: git stash show --patch stash@{0}"]


if __name__ == "__main__":
    with exit_on_input_error():
        main()
