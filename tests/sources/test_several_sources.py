"""Validation and test rows of other sources: whose revision, subset and hash is whose, and whose fault is told."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Refusal, Run
from tests.toy import write_params

SOURCE = "data.source"


def rows(prefix: str, count: int = 4) -> bytes:
    return json.dumps([{"instruction": f"{prefix} {n}?", "output": f"{prefix} {n}."} for n in range(count)]).encode()


def questions() -> dict[str, set[str]]:
    """Split -> the first words of its questions."""
    table = pd.read_parquet("data/raw/rows.parquet")
    words = table["messages"].map(lambda turns: turns[0]["content"].split()[0])
    return {str(split): set(group) for split, group in words.groupby(table["split"])}


@pytest.fixture
def repository(hub, name, project, monkeypatch) -> str:
    """A repository whose branch v1 has other rows than main."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for branch in ("main", "v1"):
        files = {file: rows(f"{branch}-{file[:-5]}") for file in ("train.json", "test.json")}
        hub.repository(name, "datasets").commit(files, branch)
    return name


@pytest.mark.parametrize("test_source", ["{}", "hf://{}", None])
def test_a_source_by_two_names_is_one(repository, run: Run, project: Path, test_source, capfd) -> None:
    given = test_source and test_source.format(repository)
    changes = {SOURCE: f"hf://{repository}", "data.test_source": given, "data.test_split": "test"}
    write_params(project, **changes, **{"data.revision": "v1"})
    run("fetch_data")
    assert questions() == {"train": {"v1-train"}, "test": {"v1-test"}}
    assert f"hf://{repository}: 4 for train and 4 for test of 8 rows" in capfd.readouterr().out
    assert "others" not in json.loads(Path("data/raw/source.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("as_mapping", [False, True])
def test_a_revision_is_that_of_single_files_too(repository, run: Run, project: Path, as_mapping) -> None:
    revision = {f"hf://{repository}": "v1"} if as_mapping else "v1"
    changes = {SOURCE: f"{repository}#train.json", "data.test_source": f"{repository}#test.json"}
    write_params(project, **changes, **{"data.revision": revision})
    run("fetch_data")
    assert questions() == {"train": {"v1-train"}, "test": {"v1-test"}}
    write_params(project, **{"data.revision": {repository: "v1", f"{repository}#test.json": "main"}})
    run("fetch_data")
    assert questions() == {"train": {"v1-train"}, "test": {"main-test"}}


@pytest.mark.parametrize(("key", "value"), [("revision", "v1"), ("subset", "en")])
def test_a_mapping_that_names_another_source_is_refused(repository, refusal: Refusal, key, value) -> None:
    message = refusal("fetch_data", **{SOURCE: repository, f"data.{key}": {f"{repository}x": value}})
    assert message == f"error: data.{key}: '{repository}x' is no source of data; they are hf://{repository}"


def subsets(prefix: str) -> dict[str, bytes]:
    header = "---\nconfigs:\n- {config_name: de, data_files: de.json}\n- {config_name: en, data_files: en.json}\n---\n"
    return {"README.md": header.encode(), "de.json": rows(f"{prefix}-de"), "en.json": rows(f"{prefix}-en")}


def test_a_subset_is_of_its_source(repository, hub, run: Run, refusal: Refusal, project: Path) -> None:
    other = f"{repository}-other"
    hub.repository(repository, "datasets").commit(subsets("one"))
    hub.repository(other, "datasets").commit({"train.json": rows("plain")})
    write_params(project, **{SOURCE: repository, "data.test_source": other, "data.subset": "en"})
    run("fetch_data")
    assert questions() == {"train": {"one-en"}, "test": {"plain"}}
    hub.repository(other, "datasets").commit(subsets("two"))
    write_params(project, **{"data.subset": {repository: "en", f"hf://{other}": "de"}})
    run("fetch_data")
    assert questions() == {"train": {"one-en"}, "test": {"two-de"}}
    write_params(project, **{"data.subset": "de", "data.test_source": f"{repository}#en.json"})
    run("fetch_data")
    assert questions() == {"train": {"one-de"}, "test": {"one-en"}}, "single files have none"
    message = refusal("fetch_data", **{SOURCE: f"{repository}#en.json", "data.test_source": None})
    assert "data.subset: single files have no subsets" in message


def test_a_fault_is_told_of_the_parameter_that_names_the_source(refusal: Refusal, project: Path) -> None:
    (project / "toy/page.json").write_text("<html>", encoding="utf-8")
    (project / "toy/other.json").write_text('[{"x": "y"}]', encoding="utf-8")
    for key in ("validation", "test"):
        for file, expected in {
            "no.json": "no such file",
            "page.json": "is a web page",
            "other.json": "other.json: the columns are x",
        }.items():
            changes = {"data.validation_source": None, "data.test_source": None, f"data.{key}_source": f"toy/{file}"}
            message = refusal("fetch_data", **changes)
            assert message.startswith(f"error: data.{key}_source: 'toy/{file}': ")
            assert expected in message


def test_slices_that_share_rows_are_counted_each(run: Run, project: Path, capfd) -> None:
    write_params(project, **{"data.test_split": "train[:5]"})
    run("fetch_data")
    assert "toy/rows.json: 48 for train and 5 for test of 48 rows" in capfd.readouterr().out
