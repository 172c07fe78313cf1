"""The toy in a real DVC repository, after `make repro`."""

import shutil
from pathlib import Path

import pytest

from tests.clones import made_once, toy_clone


@pytest.fixture(scope="session")
def finished_clone(tmp_path_factory: pytest.TempPathFactory, toy_model: Path) -> Path:
    """A clone after `make repro`, to be read only."""
    return made_once(tmp_path_factory, "clone", lambda folder: toy_clone(folder, toy_model, **{"train.max_steps": 6}))


@pytest.fixture
def clone(finished_clone: Path, tmp_path: Path) -> Path:
    """The finished clone, to be changed: a copy, which takes less time than to bring one back to its commit."""
    return shutil.copytree(finished_clone, tmp_path / "clone", symlinks=True)
