"""What an experiment changes in the workspace, noted while a stage of it runs: `make undo` puts it back if it fails.

`dvc exp run` writes the overrides of `-S` into params.yaml, and its stages change dvc.lock and metrics; all of it stays
there when a stage fails. The note names the commit that holds these files as they were before.
"""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from softprompt.runtime.outputs import sha256_of, write_json
from softprompt.runtime.paths import RESULTS

NOTE = Path(".dvc/tmp/undo.json")
PARAMS, LOCK = "params.yaml", "dvc.lock"
ADVICE = "the state before the experiment comes back with: make undo"


@contextlib.contextmanager
def undoable() -> Iterator[list[str]]:
    """Keep the note while the block runs, and after it if it fails; yield what to say then, which may be nothing."""
    if not _is_here():
        yield []
        if "DVC_STAGE" in os.environ and "DVC_EXP_NAME" not in os.environ:
            NOTE.unlink(missing_ok=True)  # `dvc repro` went on from what a failed experiment had left
        return
    noted = _note()
    try:
        yield [ADVICE] if noted else []
    except BaseException:
        _note()  # what the stage has written until it failed
        raise
    if noted:  # kept for the run's later stages: one of them may fail yet
        with contextlib.suppress(OSError):
            write_json(NOTE, {**json.loads(NOTE.read_text(encoding="utf-8")), "succeeded": True})


def _is_here() -> bool:
    """Whether this is the one process of a stage that `dvc exp run` runs in the user's own files.

    With --temp and in the queue a stage runs elsewhere, and nothing of the user's changes.
    """
    root, is_launched = os.environ.get("DVC_ROOT"), "LOCAL_RANK" in os.environ
    return "DVC_EXP_NAME" in os.environ and not is_launched and root is not None and Path(root).samefile(Path.cwd())


def _note() -> bool:
    """Write the note; return whether there is one. What hinders it, such as a full disk, doesn't hinder the stage."""
    run, began = git("rev-parse", "--verify", "--quiet", "refs/exps/exec/EXEC_MERGE").decode().strip(), _dvc_began()
    if not run or began is None:
        return False
    with contextlib.suppress(OSError):
        before = _before(run, began)
        names = git("diff", "-z", "--name-only", "--relative", before, "--", LOCK, RESULTS.as_posix()).decode()
        files = {name: sha256_of(Path(name)) if Path(name).is_file() else None for name in names.split("\0") if name}
        what = {"stage": os.environ["DVC_STAGE"], "run": run, "before": before, "files": files}
        write_json(NOTE, {**what, "earlier": _earlier(run), "succeeded": False})
    return NOTE.exists()


def _earlier(run: str) -> dict[str, Any] | None:
    """The note of an experiment that failed before `run`, and was not undone: this one began where it ended."""
    if not NOTE.exists():
        return None
    note: dict[str, Any] = json.loads(NOTE.read_text(encoding="utf-8"))
    if note["run"] == run:
        return note["earlier"]
    return None if note["succeeded"] else note


def _dvc_began() -> float | None:
    """When the DVC that runs this stage was started."""
    import psutil

    for process in psutil.Process().parents():
        command = process.cmdline()
        if any(Path(part).name == "dvc" for part in command[:3]) and "exp" in command:
            return process.create_time()
    return None


def _before(run: str, began: float) -> str:
    """The commit with the workspace's files as they were before DVC made `run` of them, in a process that `began` then.

    DVC puts a changed workspace on git's stash, takes a copy of it for the experiment, and takes it from there again.
    The stash's commit has no name any more, but is in git: the first that was made since of two parents. Where nothing
    was changed, none was made: it is the commit that is checked out.
    """
    folder = Path(git("rev-parse", "--git-path", "objects").decode().strip())
    new = [(path.stat().st_mtime, path.parent.name + path.name) for path in folder.glob("??/*")]
    names = "".join(f"{name}\n" for made, name in sorted(new) if made >= began)
    kinds = git("cat-file", "--batch-check=%(objectname) %(objecttype)", given=names).decode().split()
    commits = [name for name, kind in zip(kinds[::2], kinds[1::2], strict=True) if kind == "commit"]
    (head,) = git("rev-parse", f"{run}^1").decode().split()
    for commit in commits:
        parents = git("rev-parse", f"{commit}^@").decode().split()
        if commit != run and len(parents) > 1 and parents[0] == head:
            return commit
    return head


def git(*arguments: str, given: str = "") -> bytes:
    """What git prints; nothing where it fails."""
    result = subprocess.run(["git", *arguments], input=given.encode(), capture_output=True, check=False)
    return result.stdout if result.returncode == 0 else b""
