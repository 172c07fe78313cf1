"""A release: what `python -m build` packs has all of the library, and works where the pipeline's folder is not."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from softprompt.provenance.versions import VERSION
from tests.toy import ROOT

PACKED = ("CHANGELOG.md", "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml")
MORE = """
import torch, softprompt
from pathlib import Path
model.save_pretrained("adapter")
again = softprompt.SharedPrefixModel.from_pretrained(base, "adapter")
rows = [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}]
assert torch.equal(model.token_losses(rows)[0], again.token_losses(rows)[0])
from softprompt.report import render
print(softprompt.__version__, Path(softprompt.__file__).parent)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, by way of the source archive; built elsewhere, since setuptools leaves files beside what it packs."""
    folder = tmp_path_factory.mktemp("release")
    for name in PACKED:
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "softprompt", folder / "softprompt", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", folder]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob(f"softprompt-{VERSION}-py3-none-any.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-compile", "--target", folder]
    subprocess.run([*command, wheel], check=True, capture_output=True)
    return folder


def run(installed: Path, folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """What a command that takes the installed library says in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_wheel_has_every_file_of_the_library(wheel: Path) -> None:
    source = wheel.parent.parent
    files = {path.relative_to(source).as_posix() for path in (source / "softprompt").rglob("*") if path.is_file()}
    packed = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == files
    assert {Path(name).suffix for name in packed} >= {".py", ".jinja", ".css", ".js"}


def test_the_example_of_the_engine_runs_without_the_pipeline(installed: Path, toy_model: Path, tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/engine.md").read_text(encoding="utf-8"), re.S)
    (tmp_path / "models").mkdir()
    (tmp_path / "models/base").symlink_to(toy_model)
    result = run(installed, tmp_path, sys.executable, "-c", example + MORE)
    assert result.stdout == f"{VERSION} {installed / 'softprompt'}\n", result.stderr


def test_the_command_says_where_it_works(installed: Path, tmp_path: Path) -> None:
    command = installed / "bin/softprompt"
    assert "Usage: softprompt" in run(installed, tmp_path, command, "--help").stdout
    assert run(installed, tmp_path, command, "--version").stdout == f"softprompt {VERSION}\n"
    result = run(installed, tmp_path, command, "verify", "HEAD")
    assert result.returncode == 1
    assert result.stdout == ""
    assert re.fullmatch(r"error: \S+ is in no repository of the pipeline .*\n", result.stderr)


def test_the_changelog_has_the_version() -> None:
    versions = re.findall(r"(?m)^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert VERSION in versions
