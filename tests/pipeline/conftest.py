"""The toy in a real DVC repository, after `make repro`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clones import call, toy_clone


@pytest.fixture(scope="session")
def finished_clone(tmp_path_factory: pytest.TempPathFactory, toy_model: Path) -> Path:
    """A clone after `make repro`; to be changed through `clone`."""
    return toy_clone(tmp_path_factory.mktemp("dvc") / "clone", toy_model, **{"train.max_steps": 6})


@pytest.fixture
def clone(finished_clone: Path) -> Iterator[Path]:
    """The finished clone, brought back to its commit afterwards."""
    yield finished_clone
    call(finished_clone, "git reset -q --hard && git clean -fdq && dvc checkout -q --force && dvc repro -q")
    call(finished_clone, "dvc exp remove -q --all-commits")
