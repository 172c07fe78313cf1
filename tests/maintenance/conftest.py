"""A small repository of git and DVC: a user's file and folder, and a stage that makes an output of the file."""

from pathlib import Path

import pytest

from tests.clones import call

GRAPH = """
stages:
  copy:
    cmd: mkdir -p out && cp rows.json out/copy && cp rows.json metrics.json
    deps: [rows.json]
    params: [number]
    outs: [out]
    metrics: [metrics.json: {cache: false}]
"""


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    call(folder, "git init -q -b main && git config user.name test && git config user.email test@localhost")
    call(folder, "dvc init -q")
    config = "[core]\n    autostage = true\n    analytics = false\n[cache]\n    type = hardlink,copy\n"
    (folder / ".dvc/config").write_text(config, encoding="utf-8")
    (folder / "dvc.yaml").write_text(GRAPH, encoding="utf-8")
    (folder / "params.yaml").write_text("number: 1\n", encoding="utf-8")
    (folder / "rows.json").write_text("first\n", encoding="utf-8")
    (folder / "more").mkdir()
    for name in ("a", "b"):
        (folder / "more" / name).write_text(f"{name} of the user\n", encoding="utf-8")
    call(folder, "dvc add -q rows.json more && dvc repro -q && git add -A && git commit -qm first")
    return folder


@pytest.fixture
def repository(template: Path, tmp_path: Path) -> Path:
    """With hard links into the cache, as clones made before have them."""
    call(tmp_path, f"cp -a {template} repository")
    return tmp_path / "repository"
