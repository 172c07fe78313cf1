"""Experiments in the queue and in temporary workspaces, and what a team does with them, on the toy."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.clones import call, stages_run, wait
from tests.toy import write_params

GRID = "dvc exp run --queue --name grid -S 'train.num_virtual_tokens=2,3' -S 'seed=range(1,2)'"
NAMES = ("grid-1", "grid-2")


@pytest.fixture(scope="module")
def finished_grid(finished_clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone after a grid of two experiments, two at a time."""
    folder = shutil.copytree(finished_clone, tmp_path_factory.mktemp("grid") / "clone", symlinks=True)
    queued = call(folder, GRID)
    assert [name in queued for name in NAMES] == [True] * 2
    call(folder, "dvc queue start -j 2 > queue.log 2>&1; rm queue.log")  # a worker would hold the pipe
    # Git is asked, and often: each answer of DVC's takes a second from what it is asked about.
    wait(lambda: len(call(folder, "git for-each-ref 'refs/exps/*/*/grid-*'").splitlines()) == 2, seconds=300, every=0.5)
    wait(lambda: call(folder, "dvc queue status").count("Success") == 2, seconds=300)
    return folder


@pytest.fixture
def grid(finished_grid: Path) -> Iterator[Path]:
    """The same, brought back to its commit afterwards."""
    yield finished_grid
    call(finished_grid, "git reset -q --hard && git checkout -q main && git clean -fdq && dvc checkout -q --force")


def locked(folder: Path, revision: str = "HEAD") -> dict[str, str]:
    """Hashes of all outputs in dvc.lock of a revision."""
    lock = YAML(typ="safe").load(call(folder, f"git show {revision}:dvc.lock"))
    return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", [])}


def revision_of(folder: Path, name: str) -> str:
    return call(folder, f"git for-each-ref --format='%(objectname)' 'refs/exps/*/*/{name}'").strip()


def test_a_grid_side_by_side_gives_what_each_gives_alone(grid: Path) -> None:
    rows = json.loads(call(grid, "dvc exp show --json"))[1]["experiments"]
    values = {row["revs"][0]["name"]: row["revs"][0]["data"]["params"]["params.yaml"]["data"] for row in rows}
    assert {name: (v["train"]["num_virtual_tokens"], v["seed"]) for name, v in values.items()} == {
        "grid-1": (2, 1),
        "grid-2": (3, 1),
    }
    for name in NAMES:
        log = call(grid, f"dvc queue logs {name}")
        assert stages_run(log) == ["train", "evaluate", "report"], "the model, the data and the tokens are shared"
        assert "WARNING" not in log
        assert "another run" not in log
    shutil.rmtree(grid / ".dvc/cache/runs")  # or DVC would take the results from there
    output = call(grid, "dvc exp run --name alone -S train.num_virtual_tokens=3 -S seed=1")
    assert stages_run(output) == ["train", "evaluate", "report"]
    assert locked(grid, revision_of(grid, "alone")) == locked(grid, revision_of(grid, "grid-2"))


def test_experiments_are_shown_compared_and_made_a_branch(grid: Path) -> None:
    """On the way nothing is overwritten that is in no commit, or in no cache."""
    assert "train.num_virtual_tokens" in call(grid, "dvc exp diff grid-1 grid-2")
    rows, params = grid / "data/local/rows.json", grid / "params.yaml"
    kept, as_committed = rows.read_bytes(), params.read_bytes()
    write_params(grid, seed=5)
    assert "would be overwritten" in call(grid, "dvc exp branch grid-2 two && git switch two", ok=False)
    assert "seed: 5 " in params.read_text(encoding="utf-8")
    params.write_bytes(as_committed)
    rows.unlink()  # it is a link into DVC's cache
    rows.write_text("[]", encoding="utf-8")
    assert "data/local/rows.json" in call(grid, "git switch two && dvc checkout", ok=False)
    assert rows.read_text(encoding="utf-8") == "[]"
    rows.write_bytes(kept)
    call(grid, "dvc checkout")
    assert "up to date" in call(grid, "dvc status")
    config = json.loads((grid / "models/adapter/adapter_config.json").read_text(encoding="utf-8"))
    assert config["num_virtual_tokens"] == 3
    call(grid, "git switch main && dvc checkout")
    assert "up to date" in call(grid, "dvc status")


def test_a_temporary_workspace_leaves_this_one_alone(clone: Path) -> None:
    before = call(clone, "git status --porcelain && dvc status")
    output = call(clone, "dvc exp run --temp --name aside -S train.max_steps=3 train")
    assert stages_run(output) == ["train"]
    assert call(clone, "git status --porcelain && dvc status") == before
    assert locked(clone, revision_of(clone, "aside"))["models/adapter"] != locked(clone)["models/adapter"]
