"""`make ci`, the steps of the pipeline's workflow, in clones as CI has them: shallow, with a cache.

Without one: tests/pipeline/test_same_bytes.py.
"""

import shutil
from pathlib import Path

import pytest
import yaml

from tests.clones import call, cloned, stages_run
from tests.toy import ROOT, write_params

DATA = "data/local/general.txt data/local/rows.json"
NO_CREDENTIALS = "env -u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY AWS_EC2_METADATA_DISABLED=true AWS_CONFIG_FILE=none"


@pytest.fixture(autouse=True)
def summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page of a workflow's run; never that of the run in which these tests are."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    return tmp_path / "summary.md"


@pytest.fixture
def checkout(clone: Path, tmp_path: Path) -> Path:
    """A shallow clone of the finished one, without outputs; its origin has the branch main."""
    return cloned(clone, tmp_path / "checkout", "--depth=1")


@pytest.fixture
def warm(checkout: Path, clone: Path) -> Path:
    """The same with DVC's cache restored."""
    shutil.copytree(clone / ".dvc/cache", checkout / ".dvc/cache")
    return checkout


def test_a_warm_cache_runs_no_stage(warm: Path, summary: Path) -> None:
    output = call(warm, "BASE=main make ci")
    assert stages_run(output) == []
    assert "HEAD: the same bytes" in output
    assert "Verdict: " in output
    assert call(warm, "git status --porcelain") == ""
    comment = (warm / "results/ci.md").read_text(encoding="utf-8")
    assert (warm / "results/report.md").read_text(encoding="utf-8") in comment
    assert "## Change of metrics against main\n\nnone" in comment
    assert summary.read_text(encoding="utf-8") == comment, "a fork's pull request has this alone"


def test_a_remote_out_of_reach_is_told_and_matters_only_where_it_is_needed(warm: Path) -> None:
    call(warm, "make remote URL=s3://bucket/dvc")
    digest = (warm / "dvc.lock").read_text(encoding="utf-8").split("path: results/report.md")[1].split("md5: ")[1][:32]
    (warm / f".dvc/cache/files/md5/{digest[:2]}/{digest[2:]}").unlink()
    output = call(warm, f"{NO_CREDENTIALS} make ci")
    assert "warning: dvc pull: ERROR: failed to connect to s3 (bucket/dvc/files/md5) - Unable to locate cred" in output
    assert stages_run(output) == ["report"]
    shutil.rmtree(warm / ".dvc/cache")
    for name in DATA.split():
        (warm / name).unlink()
    output = call(warm, f"{NO_CREDENTIALS} make ci", ok=False)
    assert "error: data/local/general.txt, data/local/rows.json: given to dvc add, and neither in DVC's cache" in output
    assert stages_run(output) == []
    assert "Traceback" not in output


def test_only_a_pull_request_of_the_same_repository_is_commented() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/pipeline.yml").read_text(encoding="utf-8"))
    (comment,) = (step for step in workflow["jobs"]["pipeline"]["steps"] if "cml comment" in step.get("run", ""))
    assert comment["if"] == "always() && github.event.pull_request.head.repo.full_name == github.repository"


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
