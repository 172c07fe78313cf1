"""Repair what a kill of DVC leaves behind: `python -m stages.workspace.unlock` (`make unlock`).

Refuses while DVC or a stage runs in this repository. Removes stale locks, ends queued experiments that nobody runs any
more, removes their temporary workspaces, and attaches HEAD to its branch again. Checkpoints in .resume/ and changes in
the workspace stay.
"""

import shutil
import subprocess
from pathlib import Path

import psutil

from stages.workspace.errors import InputError
from stages.workspace.guard import exit_on_input_error

TEMPORARY = Path(".dvc/tmp/exps")
LOCKS = (Path(".dvc/tmp/rwlock"), TEMPORARY / "rwlock")


def main() -> None:
    """Repair, and say what was repaired."""
    if running := processes_here(Path.cwd()):
        raise InputError(f"DVC runs here ({'; '.join(running)}); wait until it ends, or stop it, then: make unlock")
    done = [*_end_killed_tasks(), *_remove_stale_locks(), *_remove_workspaces(), *_attach_head()]
    for line in done:
        print(line)
    if not done:
        print("nothing to repair")
    elif _git("status", "--porcelain"):
        print("the workspace has changes: make repro goes on; git checkout HEAD . && dvc checkout --force goes back")


def processes_here(root: Path) -> list[str]:
    """DVC's processes and stages that run in the repository `root` or in a temporary workspace of it."""
    own = psutil.Process()
    family = {own.pid, *(parent.pid for parent in own.parents())}
    found = []
    for process in psutil.process_iter(["cwd", "cmdline"]):
        command = process.info["cmdline"] or []
        is_dvc = any(Path(part).name == "dvc" for part in command[:2])
        is_stage = "-m" in command and any(part.startswith("stages.") for part in command)
        inside = process.info["cwd"] and Path(process.info["cwd"]).is_relative_to(root)
        if inside and (is_dvc or is_stage) and process.pid not in family:
            found.append(f"PID {process.pid}: {' '.join(command)[:60]}")
    return found


def _end_killed_tasks() -> list[str]:
    """Experiments of the queue that are running by name only."""
    import logging

    from dvc.repo import Repo

    logging.disable(logging.WARNING)  # that nobody runs them is known
    if not (TEMPORARY / "celery").is_dir():
        return []
    with Repo() as repo:
        queue = repo.experiments.celery_queue
        active = list(queue._iter_active_tasks())
        # Not `queue.kill`: it would signal PIDs that are another's by now, and leaves a task whose PID still exists.
        for task, _ in active:
            task.backend.mark_as_failure(task.id, None)
        names = [entry.name or entry.stash_rev[:7] for _, entry in active]
        if names:
            queue.remove(names)
    hint = "the same dvc exp run goes on from its checkpoint"
    return [f"{name}: killed; taken out of the queue: {hint}" for name in names]


def _remove_stale_locks() -> list[str]:
    held = [path for path in LOCKS if path.is_file() and '"pid"' in path.read_text(encoding="utf-8")]
    for path in held:
        path.unlink()
    return [f"{path}: removed" for path in held]


def _remove_workspaces() -> list[str]:
    """Of experiments that ran beside the workspace; none runs now."""
    folders = [*TEMPORARY.glob("tmp*"), *TEMPORARY.glob("standalone/*")]
    for folder in folders:
        shutil.rmtree(folder)
    return [f"{folder}: removed" for folder in folders]


def _attach_head() -> list[str]:
    """A killed `dvc exp run` leaves HEAD at the commit instead of the branch, and says so in its own refs."""
    own = "refs/exps/exec/"
    begun = _git("for-each-ref", "--format=%(objectname)", f"{own}EXEC_HEAD")
    if not begun:
        return []
    for ref in ("EXEC_BASELINE", "EXEC_HEAD", "EXEC_MERGE", "EXEC_BRANCH"):
        _git("update-ref", "-d", f"{own}{ref}")
    branch = _git("rev-parse", "--symbolic-full-name", "@{-1}")
    if _git("symbolic-ref", "--quiet", "HEAD") or begun != _git("rev-parse", "HEAD"):
        return ["refs of a killed experiment: removed"]
    if not branch or _git("rev-parse", branch) != begun:
        return ["HEAD stands at a commit, not on a branch: git checkout BRANCH"]
    _git("symbolic-ref", "HEAD", branch)
    return [f"HEAD: on {branch.removeprefix('refs/heads/')} again"]


def _git(*arguments: str) -> str:
    """What git prints; nothing where it fails, as outside of a repository."""
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    with exit_on_input_error():
        main()
