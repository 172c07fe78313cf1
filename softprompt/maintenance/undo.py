"""Bring back the state before an experiment that failed here: `python -m softprompt.maintenance.undo` (`make undo`).

What `dvc exp run -S …` set in params.yaml gets its value from before, dvc.lock and metrics their content, and `dvc
checkout` brings the outputs. All other files, and other edits of params.yaml, stay as they are: so does what was
changed since the experiment failed, which is named.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dvc.repo import Repo

from softprompt.config import COMMITTED, PARAMS_FILE
from softprompt.maintenance.running import alone
from softprompt.provenance.graph import flat, parse_yaml, stages_of
from softprompt.runtime.errors import InputError
from softprompt.runtime.experiment import NOTE
from softprompt.runtime.git import git
from softprompt.runtime.guard import exit_on_input_error
from softprompt.runtime.outputs import output_file, sha256_of, write_json
from softprompt.runtime.secrets import redacted


def main() -> None:
    """Undo, and say what was changed."""
    note = json.loads(NOTE.read_text(encoding="utf-8")) if NOTE.exists() else None
    if note is None or note["succeeded"]:
        print("nothing to undo")
        return
    stages = stages_of(Path())
    with Repo() as repo, alone(repo, "make undo"):
        for line in _undo_params(note["run"], note["before"]):
            print(line)
        for line in [*_set_aside(stages.get(note["stage"], {})), *_undo_files(note["before"], note["files"])]:
            print(line)
    _check_out(stages)
    if note["earlier"]:
        write_json(NOTE, note["earlier"])
        print("an experiment before it had failed too; the state before that one comes back with: make undo")
    else:
        NOTE.unlink()


def _undo_params(run: str, before: str) -> list[str]:
    """Take the difference of the two commits out of params.yaml, as it is now.

    Raises:
        InputError: if it was changed since in the same lines.
    """
    here = PARAMS_FILE.read_bytes()
    ours, theirs = (git("show", f"{commit}:./{PARAMS_FILE}") for commit in (run, before))
    if not ours or not theirs:
        raise InputError(
            f"git has removed what {PARAMS_FILE} was before, as it does after weeks: set it by hand; {COMMITTED}"
        )
    now, old, new = (dict(flat(_params(text))) for text in (here, ours, theirs))
    changes = {key: (value, new.get(key)) for key, value in old.items() if value != new.get(key)}
    with tempfile.TemporaryDirectory() as name:
        sides = [Path(name) / side for side in ("now", "run", "before")]
        for side, content in zip(sides, (here, ours, theirs), strict=True):
            side.write_bytes(content)
        merged = subprocess.run(["git", "merge-file", "--stdout", *sides], capture_output=True, check=False)
    if merged.returncode:
        if wanted := [f"{key}: {_shown(value)}" for key, (_, value) in changes.items() if now.get(key) != value]:
            set_it = ", ".join(wanted)
            raise InputError(
                f"{PARAMS_FILE} was changed since, in the same lines: set {set_it} by hand, then: make undo"
            )
        return []
    if merged.stdout == here:
        return []
    with output_file(PARAMS_FILE) as path:
        path.write_bytes(merged.stdout)
    return [f"{PARAMS_FILE}: {key}: {_shown(was)} -> {_shown(value)}" for key, (was, value) in changes.items()]


def _set_aside(stage: Mapping[str, list[Any]]) -> Iterator[str]:
    """What the failed stage has written of its outputs, as when it was killed: DVC had removed those from before."""
    outs = [out for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]
    paths = [Path(out if isinstance(out, str) else next(iter(out))) for out in outs]
    if written := [path for path in paths if path.exists()]:
        folder = Path(tempfile.mkdtemp(prefix="undone-", dir=NOTE.parent))
        for path in written:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            path.rename(folder / path)
            yield f"{path}: of the failed stage; now in {folder}"


def _undo_files(before: str, files: Mapping[str, str | None]) -> Iterator[str]:
    """Files that the experiment has rewritten or deleted, if they are still as it left them."""
    for name, left in files.items():
        path, content = Path(name), git("show", f"{before}:./{name}")
        if path.exists() and sha256_of(path) != left:
            if path.read_bytes() != content:
                yield f"{name}: left as it is, since it was changed after the experiment"
        elif content:
            with output_file(path) as partial:
                partial.write_bytes(content)
            git("add", "--", name)  # DVC had added its own
            yield f"{name}: as before"


def _check_out(stages: Iterable[str]) -> None:
    """Outputs of the stages alone: your own data under DVC's control may have edits that are in no cache.

    Raises:
        InputError: if DVC would have to overwrite what is in no cache.
    """
    if subprocess.call(["dvc", "checkout", "--allow-missing", *stages]):
        raise InputError("the outputs are left as they are: remove or rename what is named above, then: make undo")


def _params(text: bytes) -> Any:
    """What can't be read, as after an edit by hand, has no keys."""
    from ruamel.yaml import YAMLError

    try:
        return parse_yaml(text)
    except YAMLError:
        return {}


def _shown(value: Any) -> str:
    return redacted(json.dumps(value, ensure_ascii=False, default=str))


if __name__ == "__main__":
    with exit_on_input_error():
        main()
