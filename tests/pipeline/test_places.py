"""A checkout works wherever it is: in a larger repository, a worktree, odd paths, with any line ends, for any user."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clones import call, installed, stages_run

ODD = 'Zoë\'s "work tree"'
STRANGER = "unshare --user --map-user=54321 --map-group=54321"
NAMELESS = f"{STRANGER} env -u USER -u LOGNAME -u LNAME -u USERNAME -u HOME"


@pytest.fixture
def copied(finished_clone: Path, tmp_path: Path) -> Path:
    """A copy of the finished clone, with its cache and its outputs."""
    return shutil.copytree(finished_clone, tmp_path / "copy", symlinks=True)


@pytest.fixture
def subfolder(copied: Path, tmp_path: Path) -> Path:
    """The same as a folder of a larger repository, in which an earlier make has turned git off."""
    folder = tmp_path / "mono/ml/prompt"
    shutil.rmtree(copied / ".git")
    shutil.rmtree(copied / ".dvc/tmp")
    shutil.copytree(copied, folder)
    call(tmp_path / "mono", "git init -q -b main && git config user.name test && git config user.email test@localhost")
    call(tmp_path / "mono", "git add -A && git commit -qm mono && git remote add origin .")
    call(folder, "dvc config --local core.no_scm true")
    return folder


def test_a_folder_of_a_larger_repository(subfolder: Path) -> None:
    assert stages_run(call(subfolder, "make repro")) == []
    assert "best: search-1, validation loss" in call(subfolder, "make search TRIALS=1")
    assert "| models/local/toy" in call(subfolder, "softprompt provenance search-1")
    output = call(subfolder, "BASE=main make ci")
    assert stages_run(output) == []
    assert "HEAD: the same bytes" in output
    assert "## Change of metrics against main\n\nnone" in (subfolder / "results/ci.md").read_text(encoding="utf-8")
    assert call(subfolder, "git status --porcelain") == ""


def test_an_archive_that_becomes_a_repository(copied: Path) -> None:
    (copied / ".git").rename(copied.parent / "git")
    call(copied, "make .dvc/config.local")
    assert "no_scm = true" in (copied / ".dvc/config.local").read_text(encoding="utf-8")
    (copied.parent / "git").rename(copied / ".git")
    call(copied, "make .dvc/config.local")
    assert "no_scm" not in (copied / ".dvc/config.local").read_text(encoding="utf-8")


def test_a_worktree_in_an_odd_path(copied: Path, tmp_path: Path) -> None:
    folder = tmp_path / ODD
    subprocess.run(["git", "worktree", "add", "-q", folder, "-b", "side"], cwd=copied, check=True)
    call(copied, "git remote add origin .")
    installed(folder)
    shutil.copytree(copied / ".dvc/cache", folder / ".dvc/cache")
    output = call(folder, "BASE=main make ci")
    assert stages_run(output) == []
    assert "HEAD: the same bytes" in output
    assert call(copied, "git rev-parse --is-shallow-repository") == "false\n", "the history of main is still there"
    assert stages_run(call(folder, "dvc exp run --name two -S train.max_steps=9 train")) == ["train"]
    assert "two" in call(copied, "dvc exp list --rev side"), "all worktrees have the same experiments"
    refused = call(folder, "make sweep NAME=method", ok=False)
    assert f"error: {folder}: DVC can't run experiments beside a workspace with ë in its path" in refused
    assert "Traceback" not in refused


def test_git_that_turns_line_ends_keeps_the_bytes(copied: Path, tmp_path: Path) -> None:
    """Of the code, which DVC hashes and bash reads, and of the user's data, which may have line ends of their own."""
    theirs = b"question,answer\r\nWhat?,That.\r\n"
    (copied / "data/local/theirs.csv").write_bytes(theirs)
    call(copied, "git -c core.autocrlf=true add -A && git commit -qm theirs")
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "-c", "core.autocrlf=true", copied, folder], check=True)
    assert (folder / "data/local/theirs.csv").read_bytes() == theirs
    assert "w/crlf" not in call(folder, "git ls-files --eol -- . ':!data/local/theirs.csv'")
    assert call(folder, "git ls-files --eol data/local/theirs.csv").startswith("i/crlf"), "in the commit too"
    (folder / "data/local/theirs.csv").unlink()
    shutil.copytree(copied / ".dvc/cache", folder / ".dvc/cache")
    assert stages_run(call(folder, ".github/pipeline.sh")) == [], "it starts, and nothing is out of date"


@pytest.mark.skipif(
    subprocess.run([*STRANGER.split(), "true"], capture_output=True).returncode != 0,
    reason="needs a namespace of users: unshare --user",
)
def test_a_user_without_name_and_home(copied: Path) -> None:
    output = call(copied, f"{NAMELESS} make repro")
    assert stages_run(output) == []
    assert "Verdict: " in output
    assert "HEAD: the same bytes" in call(copied, f"{NAMELESS} softprompt verify")
    assert not (copied / "~").exists()
