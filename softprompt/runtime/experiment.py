"""What an experiment changes in the workspace, noted while a stage of it runs: `make undo` puts it back if it fails.

`dvc exp run` writes the overrides of `-S` into params.yaml, and its stages change dvc.lock and metrics; all of it stays
there when a stage fails. The note names the commit that holds these files as they were before.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from softprompt.runtime.git import git_text
from softprompt.runtime.outputs import sha256_of, write_json
from softprompt.runtime.paths import RESULTS

NOTE = Path(".dvc/tmp/undo.json")
LOCK = "dvc.lock"
ADVICE = "the state before the experiment comes back with: make undo"


@contextlib.contextmanager
def undoable() -> Iterator[list[str]]:
    """Keep the note while the block runs, and after it if it fails; yield what to say then, which may be nothing."""
    if not _is_here():
        yield []
        if is_repro():
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


def is_repro() -> bool:
    """Whether `dvc repro` runs this stage, and no experiment."""
    return "DVC_STAGE" in os.environ and "DVC_EXP_NAME" not in os.environ


def _is_here() -> bool:
    """Whether this is the one process of a stage that `dvc exp run` runs in the user's own files.

    With --temp and in the queue a stage runs elsewhere, and nothing of the user's changes.
    """
    root, is_launched = os.environ.get("DVC_ROOT"), "LOCAL_RANK" in os.environ
    return "DVC_EXP_NAME" in os.environ and not is_launched and root is not None and Path(root).samefile(Path.cwd())


def _note() -> bool:
    """Write the note; return whether there is one. What hinders it, such as a full disk, doesn't hinder the stage."""
    run = git_text("rev-parse", "--verify", "--quiet", "refs/exps/exec/EXEC_MERGE")
    if not run:
        return False
    with contextlib.suppress(OSError):
        known = json.loads(NOTE.read_text(encoding="utf-8")) if NOTE.exists() else None
        if known and known["run"] == run:  # by a stage before this one
            before, earlier = known["before"], known["earlier"]
        elif (began := _dvc_began()) is not None:
            # One that failed, and was not undone: this experiment began where it ended.
            before, earlier = _before(run, began), None if not known or known["succeeded"] else known
        else:
            return False
        names = git_text("diff", "-z", "--name-only", "--relative", before, "--", LOCK, RESULTS.as_posix())
        files = {name: sha256_of(Path(name)) if Path(name).is_file() else None for name in names.split("\0") if name}
        what = {"stage": os.environ["DVC_STAGE"], "run": run, "before": before, "files": files}
        write_json(NOTE, {**what, "earlier": earlier, "succeeded": False})
    return NOTE.exists()


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
    folder = Path(git_text("rev-parse", "--git-path", "objects"))
    new = [(path.stat().st_mtime, path.parent.name + path.name) for path in folder.glob("??/*")]
    names = "".join(f"{name}\n" for made, name in sorted(new) if made >= began)
    kinds = git_text("cat-file", "--batch-check=%(objectname) %(objecttype)", given=names).split()
    commits = [name for name, kind in zip(kinds[::2], kinds[1::2], strict=True) if kind == "commit"]
    (head,) = git_text("rev-parse", f"{run}^1").split()
    for commit in commits:
        parents = git_text("rev-parse", f"{commit}^@").split()
        if commit != run and len(parents) > 1 and parents[0] == head:
            return commit
    return head
