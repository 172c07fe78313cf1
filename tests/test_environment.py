"""`.venv`, which make builds and keeps where it fits: the same place, the same Python, installed to the end."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.toy import ROOT

BUILT = ("venv --clear .venv", "pip install")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What an installation reads, with no requirements, which take a minute, and an environment that looks whole."""
    folder = tmp_path / "Zoë's check out"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    (folder / "requirements.lock").touch()
    (folder / "softprompt").mkdir()
    (folder / "softprompt/__init__.py").touch()
    subprocess.run([sys.executable, "-m", "venv", ".venv"], cwd=folder, check=True)
    (folder / ".venv/installed").touch()
    return folder


@pytest.fixture
def another(tmp_path: Path) -> Path:
    """A Python that is installed elsewhere: the same program with its library beside it."""
    python = Path(sys.executable).resolve()
    library = Path("lib") / f"python{sys.version_info.major}.{sys.version_info.minor}"
    for part in ("bin", "lib"):
        (tmp_path / "python" / part).mkdir(parents=True)
    (tmp_path / "python" / library).symlink_to(Path(sys.base_prefix) / library)
    return shutil.copy(python, tmp_path / "python/bin/python3")


def make(folder: Path, *arguments: str, ok: bool = True, **environment: str) -> str:
    plain = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "PYTHON")}
    command = ["make", ".venv/installed", *arguments]
    result = subprocess.run(command, cwd=folder, env=plain | environment, capture_output=True, text=True)
    assert (result.returncode == 0) == ok, result.stdout + result.stderr
    return result.stdout


def rebuilds(output: str) -> bool:
    assert any(part in output for part in BUILT) == all(part in output for part in BUILT)
    return BUILT[0] in output


def test_what_was_moved_or_copied_is_built_anew(project: Path, tmp_path: Path) -> None:
    assert not rebuilds(make(project, "--dry-run"))
    copied = shutil.copytree(project, tmp_path / "copy", symlinks=True)
    assert rebuilds(make(copied, "--dry-run"))
    moved = project.rename(tmp_path / "Zoë's moved")
    make(moved, ok=False, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    assert rebuilds(make(moved, "--dry-run")), "an installation that failed is none"
    assert "it is built anew" in make(moved)
    assert str(moved) in subprocess.check_output([".venv/bin/pip", "--version"], cwd=moved, text=True)
    assert (moved / ".venv/bin/prompt-tuning").is_file()
    assert not rebuilds(make(moved, "--dry-run"))


def test_another_environment_behind_a_link_stays(project: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for name in ("Makefile", "requirements.lock"):
        shutil.copy(project / name, tmp_path / "other")
    (tmp_path / "other/.venv").symlink_to(project / ".venv")
    make(tmp_path / "other", ok=False)  # there is nothing to install
    assert not rebuilds(make(project, "--dry-run"))


def test_the_python_that_is_named_is_the_one_of_the_environment(project: Path, another: Path) -> None:
    assert not rebuilds(make(project, "--dry-run", f"PYTHON={sys.executable}"))
    assert not rebuilds(make(project, "--dry-run", PYTHON=sys.executable))
    assert rebuilds(make(project, "--dry-run", f"PYTHON={another}"))
    assert rebuilds(make(project, "--dry-run", PYTHON=str(another)))
    subprocess.run([another, "-m", "venv", "--without-pip", "--clear", ".venv"], cwd=project, check=True)
    (project / ".venv/installed").touch()
    assert not rebuilds(make(project, "--dry-run")), "none is named"
    assert rebuilds(make(project, "--dry-run", f"PYTHON={sys.executable}"))
