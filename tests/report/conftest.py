"""A project that the report can read, made the current folder."""

from pathlib import Path

import pytest

from tests.report.project import make_project


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of `make_project`."""
    monkeypatch.chdir(tmp_path)
    return make_project(tmp_path)
