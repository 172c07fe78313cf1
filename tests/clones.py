"""Clones of the working tree in which the real DVC and make run, on the toy."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.toy import ROOT, STAGES, TOY, write_general, write_params, write_rows

# PYTHONPATH of processes that tests start: in a clone, and in any other folder, with the code that is tested.
WITHOUT_EXTRAS = str(ROOT / "tests/without_extras")
OURS = f"{WITHOUT_EXTRAS}:{ROOT}"

LOCAL = {
    "model.source": "models/local/toy",
    "data.source": "data/local/rows.json",
    "general.source": "data/local/general.txt",
}


def clone_of_the_working_tree(folder: Path) -> Path:
    """What a clone of a commit of the working tree would hold, with one commit."""
    names = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True).splitlines()
    for name in names:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    installed(folder)
    call(folder, "git init -q -b main && git config user.name test && git config user.email test@localhost")
    call(folder, "git add -A && git commit -qm clone")
    return folder


def cloned(source: Path, folder: Path, *options: str) -> Path:
    """A clone of `source` in `folder`, without outputs; `options` are those of `git clone`."""
    subprocess.run(["git", "clone", "-q", *options, source.as_uri(), folder], check=True)
    installed(folder)
    call(folder, "git config user.name test && git config user.email test@localhost")
    return folder


def installed(folder: Path) -> None:
    """Have make take the clone in `folder` for set up: the environment of the tests is on PATH."""
    (folder / ".venv").mkdir()
    (folder / ".venv/installed").touch()


def call(folder: Path, command: str, *, ok: bool = True) -> str:
    """Run a command of the README in `folder`, with this environment's tools; return all that it prints."""
    result = subprocess.run(["bash", "-c", command], cwd=folder, env=environment(), capture_output=True, text=True)
    text = result.stdout + result.stderr
    assert (result.returncode == 0) == ok, text
    return text


def environment() -> dict[str, str]:
    # A stage that ran in this process has set HF_HUB_OFFLINE for good.
    inherited = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    return {
        **inherited,
        "PYTHONPATH": WITHOUT_EXTRAS,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MAKEFLAGS": "--no-print-directory --assume-old=.venv/installed",
    }


def wait(until: Callable[[], object], seconds: float = 60, every: float = 0.05) -> None:
    """Return once `until` is true, asked `every` so many seconds; fail where that takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        time.sleep(every)


def documents() -> list[Path]:
    """The pages whose commands are run."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(text: str, needs: str | None = None) -> list[str]:
    """The commands of a page, a block each, with long lines joined; `needs`: those that say that they need a hub."""
    found = [block.replace("\\\n", "") for block in re.findall(r"```bash\n(.*?)```", text, re.S)]
    return [block for block in found if needs is None or block.startswith(f"# needs a {needs}\n")]


def stages_run(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` makes, in one of the processes that tests run in.

    The others wait for it and share it, so nobody may write to it.
    """
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made" / name
    folder.parent.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (done := folder.with_suffix(".done")).exists():
            shutil.rmtree(folder, ignore_errors=True)  # what another process has failed to make
            make(folder)
            done.touch()
    return folder


def toy_clone(folder: Path, toy_model: Path, **changes: object) -> Path:
    """A clone in `folder` in which `make repro` has run on the toy, committed."""
    clone_of_the_working_tree(folder)
    shutil.copytree(toy_model, folder / "models/local/toy")
    write_rows(folder).rename(folder / "data/local/rows.json")
    write_general(folder).rename(folder / "data/local/general.txt")
    call(folder, "dvc add data/local/rows.json data/local/general.txt")
    write_params(folder, **{**TOY, **LOCAL, **changes})
    output = call(folder, "make repro")
    assert sorted(stages_run(output)) == sorted(STAGES)
    call(folder, "git add -A && git commit -qm toy")
    return folder
