"""What a change reruns: every key of params.yaml by the README's table, every folder of code by who imports it.

`dvc status` is asked, through DVC's own API: what it calls changed is what `dvc repro` runs.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from tests.clones import call
from tests.test_graph import imported
from tests.toy import ROOT, STAGES, write_params

README = (ROOT / "README.md").read_text(encoding="utf-8")
PARAMS = YAML(typ="safe").load(ROOT / "params.yaml")


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def another(value: Any) -> Any:
    """A value that differs; DVC compares values and knows no schema."""
    return not value if isinstance(value, bool) else 1 if value is None else value + type(value)(1)


def table_of_the_readme() -> dict[str, set[str]]:
    """Key -> stages that a change of it reruns."""
    text = README.split("| a change of |")[1].split("\n\n")[0]
    rows = [re.findall(r"`([^`]+)`", line) for line in text.splitlines()[2:]]
    keys = {row: [name for name in row if name not in STAGES] for row in map(tuple, rows)}
    return {key: {name for name in row if name in STAGES} for row, names in keys.items() for key in names}


def rerun(clone: Path) -> set[str]:
    """The stages that `dvc repro` would run, apart from those that later follow from changed outputs."""
    with Repo(str(clone)) as repo:
        return {name.rpartition(":")[2] for name in repo.status()}


@pytest.fixture
def untouched(clone: Path) -> Path:
    """The clone, in which a test changes one thing at a time; nothing is out of date."""
    assert rerun(clone) == set()
    return clone


def test_the_readme_has_every_key_of_params_yaml() -> None:
    assert sorted(table_of_the_readme()) == sorted(key for key, _ in leaves(PARAMS))


def test_every_key_reruns_the_stages_that_the_readme_says(untouched: Path) -> None:
    params = untouched / "params.yaml"
    before, found = params.read_text(encoding="utf-8"), {}
    for key, value in leaves(YAML(typ="safe").load(before)):
        write_params(untouched, **{key: another(1 if isinstance(value, int) and value > 2**31 else value)})
        found[key] = rerun(untouched)
        params.write_text(before, encoding="utf-8")
    assert found == table_of_the_readme()


def test_comments_order_and_times_rerun_nothing(untouched: Path) -> None:
    params = untouched / "params.yaml"
    values = YAML(typ="safe").load(params)
    values["train"] = dict(reversed(values["train"].items()))
    with params.open("w", encoding="utf-8") as file:
        file.write("# another comment\n")
        YAML().dump(dict(reversed(values.items())), file)
    for path in (*untouched.glob("stages/**/*.py"), *untouched.glob("data/prepared/*")):
        os.utime(path, (1, 1))
    (untouched / "stages/engine/__pycache__").mkdir(exist_ok=True)
    (untouched / "stages/engine/__pycache__/leftover.pyc").write_bytes(b"compiled")
    assert rerun(untouched) == set()


def test_a_changed_line_of_shared_code_reruns_exactly_its_importers(untouched: Path) -> None:
    """The report shows the hash of all code."""
    importers: dict[str, set[str]] = {}
    for stage in STAGES:
        for file in imported(ROOT / f"stages/{stage}.py", set()):
            parts = file.relative_to(ROOT).parts
            # One schema file a section: the check of the whole params.yaml is no dep.
            if len(parts) > 2 and parts[1] != "params":
                importers.setdefault("/".join(parts[:2]), set()).add(stage)
    folders = {path.parent.relative_to(untouched).as_posix() for path in untouched.glob("stages/*/*.py")}
    found = {}
    for folder in sorted(folders - {"stages/params"}):
        file = next((untouched / folder).glob("*.py"))
        before = file.read_bytes()
        file.write_bytes(before + b"# changed\n")
        found[folder] = rerun(untouched)
        file.write_bytes(before)
    assert found == {folder: importers.get(folder, set()) | {"report"} for folder in found}
    assert found["stages/cli"] == {"report"}, "the command line makes no output"


def test_a_changed_stage_file_reruns_that_stage(untouched: Path) -> None:
    for stage in STAGES:
        file = untouched / f"stages/{stage}.py"
        before = file.read_bytes()
        file.write_bytes(before + b"# changed\n")
        assert rerun(untouched) == {stage, "report"}
        file.write_bytes(before)


def test_what_a_changed_schema_reruns(untouched: Path) -> None:
    for section, stages in (("prepare", {"prepare"}), ("train", {"train"}), ("general", {"fetch_general", "evaluate"})):
        file = untouched / f"stages/params/{section}.py"
        before = file.read_bytes()
        file.write_bytes(before + b"# changed\n")
        assert rerun(untouched) == stages | {"report"}
        file.write_bytes(before)


def test_a_param_reruns_its_stage_and_what_follows(clone: Path) -> None:
    """What `dvc status` says is what `dvc repro` does, and later stages run where their inputs changed."""
    write_params(clone, **{"prepare.max_rows": 1000})  # the same rows: prepare's output does not change
    output = call(clone, "dvc repro")
    assert [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")] == [
        "prepare",
        "report",
    ]
