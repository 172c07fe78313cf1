"""Who else works in a repository: DVC, a worker of its queue, a stage."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import psutil
from dvc.lock import LockError
from dvc.repo import Repo, lock_repo

from softprompt.runtime.errors import InputError
from softprompt.runtime.git import git_text

EXPERIMENTS = Path(".dvc/tmp/exps")
LOCKS = (Path(".dvc/tmp/rwlock"), EXPERIMENTS / "rwlock")


@contextmanager
def alone(repo: Repo, command: str) -> Iterator[None]:
    """Hold DVC's own lock while nobody else works in `repo`: a DVC that starts meanwhile waits for it, and says so.

    DVC gives its lock back while a stage runs, and a worker of its queue never takes it. So the processes are looked at
    too, the last time when the lock is held.

    Raises:
        InputError: if somebody does; `command` is what to run when they are done.
    """
    _refuse_if_anybody_works(repo, command)
    with ExitStack() as stack:
        try:
            stack.enter_context(lock_repo(repo))
        except LockError as error:
            _refuse_if_anybody_works(repo, command)
            raise InputError(
                f"{repo.lock.lockfile} is held, but no DVC is seen here: one on another machine or of another user "
                f"may work in this repository; once it is done: {command}. If there is none, remove that file"
            ) from error
        _refuse_if_anybody_works(repo, command)
        yield


def _refuse_if_anybody_works(repo: Repo, command: str) -> None:
    if not (found := at_work(Path(repo.root_dir))):
        return
    who = "; ".join(f"PID {pid}: {words}" for pid, words in found.items())
    idle = any("queue-worker" in words for words in found.values())
    stop = "stop it (workers of the queue: dvc queue stop)" if idle else "stop it"
    raise InputError(f"DVC or a stage runs here ({who}); wait until it ends, or {stop}, then: {command}")


def at_work(root: Path) -> dict[int, str]:
    """PID and command of whoever works in the repository `root`: in a folder of it, or in a git worktree of the same.

    (Worktrees share DVC's refs, and often its cache.)
    """
    roots = worktrees(root)
    own = psutil.Process()
    family = {own.pid, *(parent.pid for parent in own.parents())}
    locked = {pid for path in LOCKS for pid in locked_by(root / path)}
    found = {}
    for process in psutil.process_iter(["cwd", "cmdline"]):
        command, cwd = process.info["cmdline"] or [], process.info["cwd"]
        places = [Path(cwd, place).resolve() for place in ("", *_told(command))] if cwd else []
        inside = any(place.is_relative_to(folder) for place in places for folder in roots)
        temporary = any(place.is_relative_to(folder / EXPERIMENTS) for place in places for folder in roots)
        program = (is_dvc(command) and (inside or process.pid in locked)) or (inside and _is_stage(command))
        works = program or temporary  # what a stage starts can be any program
        if works and process.pid not in family:
            found[process.pid] = " ".join(command)[:200]
    return found


def is_dvc(command: list[str]) -> bool:
    """Whether this is DVC, however it was started: its script, `python -m dvc`, its `__main__.py`, `python -c`."""
    if not command or not re.match(r"python|pypy|dvc", Path(command[0]).name):
        return False
    for part, value in pairwise([*command, ""]):
        path = Path(part)
        if path.name == "dvc" or path.parts[-2:] == ("dvc", "__main__.py") or part == "-mdvc":
            return True
        if part == "-c" and re.search(r"\bdvc\b", value):
            return True
    return False


def locked_by(path: Path) -> set[int]:
    """PIDs that one of DVC's read-write locks names, dead or alive."""
    return {int(pid) for pid in re.findall(r'"pid": (\d+)', path.read_text("utf-8"))} if path.is_file() else set()


def worktrees(root: Path) -> list[Path]:
    """`root`, and every other working tree of its git repository."""
    listed = git_text("worktree", "list", "--porcelain", "-z", cwd=root).split("\0")
    trees = [root, *(Path(line.removeprefix("worktree ")) for line in listed if line.startswith("worktree "))]
    return list(dict.fromkeys(tree.resolve() for tree in trees))


def _is_stage(command: list[str]) -> bool:
    return "-m" in command and any(part.startswith("stages.") for part in command)


def _told(command: list[str]) -> list[str]:
    """The folders of `--cd`, into which DVC has yet to change while it starts."""
    apart = [value for part, value in pairwise(command) if part == "--cd"]
    return apart + [part.removeprefix("--cd=") for part in command if part.startswith("--cd=")]
