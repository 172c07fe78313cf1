"""`make ci`, the steps of the pipeline's workflow, in clones as CI has them: shallow, with and without a cache."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clones import call, installed, stages_run
from tests.toy import STAGES, write_params


@pytest.fixture
def checkout(clone: Path, tmp_path: Path) -> Path:
    """A shallow clone of the finished one, without outputs; its origin has the branch main."""
    subprocess.run(["git", "clone", "-q", "--depth=1", clone.as_uri(), tmp_path / "checkout"], check=True)
    folder = tmp_path / "checkout"
    installed(folder)
    call(folder, "git config user.name test && git config user.email test@localhost")
    return folder


@pytest.fixture
def warm(checkout: Path, clone: Path) -> Path:
    """The same with DVC's cache restored."""
    shutil.copytree(clone / ".dvc/cache", checkout / ".dvc/cache")
    return checkout


def test_a_warm_cache_runs_no_stage(warm: Path) -> None:
    output = call(warm, "BASE=main make ci")
    assert stages_run(output) == []
    assert "HEAD: the same bytes" in output
    assert "Verdict: " in output
    assert call(warm, "git status --porcelain") == ""
    comment = (warm / "results/ci.md").read_text(encoding="utf-8")
    assert (warm / "results/report.md").read_text(encoding="utf-8") in comment
    assert "## Change of metrics against main\n\nnone" in comment


def test_a_cold_cache_gives_the_same_bytes(checkout: Path) -> None:
    """The data are in no package here, as they are in the embedded default: they come first."""
    origin = checkout.parent / "data"
    shutil.copytree(Path(call(checkout, "git remote get-url origin").strip().removeprefix("file://")) / "data", origin)
    for name in ("rows.json", "general.txt"):
        shutil.copy(origin / "local" / name, checkout / "data/local" / name)
    output = call(checkout, "make ci")
    assert sorted(stages_run(output)) == sorted(STAGES)
    assert "HEAD: the same bytes" in output


def test_a_changed_param_without_its_lock_is_told(warm: Path) -> None:
    write_params(warm, **{"train.num_virtual_tokens": 5})
    call(warm, "git commit -qam changed")
    output = call(warm, "BASE=main make ci", ok=False)
    assert stages_run(output) == ["train", "evaluate", "report"]
    assert "error: HEAD: train was made with another train.num_virtual_tokens" in output
    assert "commit dvc.lock and results/" in output
    assert "Traceback" not in output
    comment = (warm / "results/ci.md").read_text(encoding="utf-8")
    assert "| params.yaml | train.num_virtual_tokens | 4" in comment
    assert "results/headline.json" in comment
    call(warm, "git add -A && git commit -qm 'with its lock'")
    assert "HEAD: the same bytes" in call(warm, "make ci")


def test_a_broken_param_runs_nothing(warm: Path) -> None:
    write_params(warm, **{"train.num_virtual_tokens": 0})
    output = call(warm, "make ci", ok=False)
    assert "error: params.yaml: train.num_virtual_tokens: 0 is not allowed" in output
    assert stages_run(output) == []
    assert "Traceback" not in output


def test_a_lock_of_other_outputs_is_told(warm: Path) -> None:
    lock = (warm / "dvc.lock").read_text(encoding="utf-8")
    digest = lock.split("path: data/tokenized")[1].split("md5: ")[1][:32]
    (warm / "dvc.lock").write_text(lock.replace(digest, "0" * 32), encoding="utf-8")
    call(warm, "git commit -qam other")
    output = call(warm, "make ci", ok=False)
    assert "error: HEAD: tokenize gives another data/tokenized here" in output
