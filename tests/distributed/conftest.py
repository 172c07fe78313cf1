"""The toy, ready to be trained."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """The finished toy without what train makes."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "models/adapter")
    shutil.rmtree(tmp_path / "results")
    return tmp_path
