"""A project that the report can read, made the current folder."""

from pathlib import Path

import pytest

from softprompt.provenance.origin import Origin, write_origin
from tests.report.project import make_project


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of `make_project`."""
    monkeypatch.chdir(tmp_path)
    return make_project(tmp_path)


@pytest.fixture
def origin(results: Path) -> Origin:
    """That of the adapter, as `train` writes it."""
    origin = Origin(
        version=None,
        base_model="a model",
        base_sha256="0" * 64,
        rows_sha256="1" * 64,
        template="chat",
        system=None,
        chat_template=None,
        chat_template_kwargs={},
        date="2026-01-01",
        fold_system=False,
        params={"seed": 1, "train.method": "prompt_tuning"},
        code={},
        versions={},
    )
    write_origin(Path("models/adapter"), origin)
    return origin
