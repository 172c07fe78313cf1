"""The rooms of the library: imports go down, a subject has one room, and what no stage imports is apart."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.toy import ROOT, STAGES

# From the lowest up: a room imports from those before it alone.
ROOMS = (
    "runtime",
    "config",
    "provenance",
    "sources",
    "data",
    "distributed",
    "engine",
    "training",
    "evaluation",
    "report",
    "serving",
    "cli",
    "maintenance",
)
TEXTS = (".py", ".md", ".yaml", ".jinja", ".sh", ".toml", ".js")
PACKAGE = ROOT / "softprompt"


def rooms_imported_by(file: Path) -> set[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
            assert node.level == 0, f"{file}: a relative import"
    parts = [name.split(".") for name in names]
    assert not [part for part in parts if part[0] == "stages"], f"{file}: a library imports no script"
    return {part[1] for part in parts if part[0] == "softprompt" and len(part) > 1} & set(ROOMS)


def test_every_folder_is_a_room() -> None:
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_down(room: str) -> None:
    below = ROOMS[: ROOMS.index(room)]
    for file in (PACKAGE / room).rglob("*.py"):
        above = rooms_imported_by(file) - {room, *below}
        assert not above, f"{file.relative_to(ROOT)} imports {above}"


def test_a_name_of_a_file_is_in_one_room() -> None:
    names = [path.stem for path in PACKAGE.rglob("*.py") if not path.stem.startswith("__")]
    sections = {path.stem for path in (PACKAGE / "config").glob("*.py")}  # a section has the name of its stage
    assert sorted({name for name in names if names.count(name) > 1} - sections) == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_as_a_file_too(stage: str, tmp_path: Path) -> None:
    """As from an editor, where stages/ comes first on the path: stages/tokenize.py is not the library's `tokenize`."""
    result = subprocess.run(
        [sys.executable, ROOT / f"stages/{stage}.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: params.yaml: No such file or directory"), result.stderr


def test_the_words_are_those_of_the_field() -> None:
    """Words that this project once had for what the field has names for."""
    words = r"\b(rivals?|knobs?|bare model|forgetting|like[- ]length|for want of|told by|roads?)\b"
    listed = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    found = []
    for name in listed:
        if Path(name).suffix in TEXTS and name != "tests/test_rooms.py":
            text = (ROOT / name).read_text(encoding="utf-8")
            found += [f"{name}: {match[0]}" for match in re.finditer(words, text, re.I)]
    assert found == []
