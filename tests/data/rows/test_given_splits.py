"""Validation and test rows of one's own, what leaks between them and train, and what is asked of a conversation."""

import json
from itertools import chain
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Refusal, Run
from tests.toy import write_params


def rows(*numbers: int, said: str = "It is") -> str:
    return json.dumps([{"instruction": f"What is {number}?", "output": f"{said} {number}."} for number in numbers])


@pytest.fixture
def folder(project: Path) -> Path:
    """train, dev and test files, two of whose questions are in train too."""
    place = project / "toy/set"
    place.mkdir()
    (place / "train.json").write_text(rows(*range(30)), encoding="utf-8")
    (place / "test.json").write_text(rows(29, 40, 41, 28, 40, said="Surely it is"), encoding="utf-8")
    (project / "toy/dev.jsonl").write_text("\n".join(map(json.dumps, json.loads(rows(50, 51)))), encoding="utf-8")
    return place


OWN = {
    "data.source": "toy/set",
    "data.test_split": "test",
    "data.validation_source": "toy/dev.jsonl",
    "evaluate.rows": None,
}


def answers(split: str) -> list[str]:
    return [turns[-1]["content"] for turns in pd.read_parquet(f"data/prepared/{split}.parquet")["messages"]]


def test_own_rows_are_used_as_they_are(folder: Path, run: Run, refusal: Refusal, project: Path) -> None:
    write_params(project, **OWN, **{"prepare.leakage": "allow"})
    run("local_sources", "fetch_data", "prepare")
    assert answers("train") == [f"It is {number}." for number in range(30)]
    assert answers("test") == [f"Surely it is {number}." for number in (29, 40, 41, 28)], "but for a duplicate"
    assert answers("validation") == ["It is 50.", "It is 51."]
    report = json.loads(Path("results/prepare.json").read_text(encoding="utf-8"))
    assert report["leakage"] == [{"rows": "of_train", "count": 2}, {"rows": "of_validation", "count": 0}]
    record = json.loads(Path("data/raw/source.json").read_text(encoding="utf-8"))
    assert "" not in {row["reason"] for row in report["reasons"]}
    assert (record["split"], record["rows"], record["others"][0]["source"]) == ("train and test", 35, "toy/dev.jsonl")
    noted = json.loads(Path("data/sources/data.json").read_text(encoding="utf-8"))
    assert noted.keys() == {"toy/dev.jsonl: dev.jsonl", "toy/set: test.json", "toy/set: train.json"}


def test_leakage_is_refused_or_dropped(folder: Path, run: Run, refusal: Refusal, project: Path) -> None:
    write_params(project, **OWN)
    run("fetch_data")
    assert "2 rows ask what a row of a later split asks too (2 of train, 0 of validation)" in refusal("prepare")
    write_params(project, **{"prepare.leakage": "drop"})
    run("prepare")
    assert answers("train") == [f"It is {number}." for number in range(28)]
    report = json.loads(Path("results/prepare.json").read_text(encoding="utf-8"))
    assert {"reason": "leakage", "rows": 2} in report["reasons"]


def test_of_the_rows_that_do_not_leak_a_sample_is_taken(run: Run, project: Path) -> None:
    (project / "toy/rows.json").write_text(rows(*range(100), *range(50, 100), said="So"), encoding="utf-8")
    own = {"data.split": "train[:100]", "data.test_split": "train[100:]", "prepare.leakage": "drop"}
    write_params(project, **own, **{"prepare.max_samples": 20, "prepare.validation": 0.3})
    run("fetch_data", "prepare")
    assert len(answers("train")) + len(answers("validation")) == 20


def test_bad_rows_are_counted_split_by_split(folder: Path, run: Run, refusal: Refusal, project: Path) -> None:
    (project / "toy/dev.jsonl").write_text('{"instruction": "a", "output": "b"}\n' + "{}\n" * 3, encoding="utf-8")
    write_params(project, **OWN, **{"prepare.leakage": "allow", "data.max_bad_rows": 0.5})
    run("fetch_data")
    assert "3 of 4 validation rows can't be used, and data.max_bad_rows is 0.5" in refusal("prepare")
    write_params(project, **{"data.max_bad_rows": 1.0})
    (project / "toy/dev.jsonl").write_text("{}\n" * 3, encoding="utf-8")
    run("fetch_data")
    assert "none of the rows that were given for validation is left" in refusal("prepare")


def test_a_question_without_a_text_is_a_bad_row_wherever_it_stands(run: Run, refusal: Refusal, project: Path) -> None:
    talk = [turn("user", "Hm?"), turn("assistant", "Yes."), turn("user", " "), turn("assistant", "No.")]
    (project / "toy/rows.json").write_text(json.dumps([{"messages": talk}] * 3), encoding="utf-8")
    run("fetch_data")
    assert "3 of 3 rows can't be used, and data.max_bad_rows is 0.1: 3 without instruction" in refusal("prepare")


def test_a_given_test_split_and_a_fraction_for_validation(folder: Path, run: Run, project: Path) -> None:
    write_params(project, **{"data.source": "toy/set", "data.test_split": "test[1:3]", "prepare.validation": 0.3})
    run("fetch_data", "prepare")
    assert answers("test") == ["Surely it is 40.", "Surely it is 41."]
    assert len(answers("train")) + len(answers("validation")) == 30
    assert 3 < len(answers("validation")) < 16


def test_a_document_in_the_system_turn_is_part_of_what_is_asked(run: Run, project: Path) -> None:
    talks = [
        {"messages": [turn("system", f"Note {number}."), turn("user", "Sum up."), turn("assistant", f"{number}")]}
        for number in range(60)
    ]
    (project / "toy/rows.json").write_text(json.dumps(talks + talks[:3]), encoding="utf-8")
    run("fetch_data", "prepare")
    splits = {split: answers(split) for split in ("train", "validation", "test")}
    assert all(splits.values())
    assert sorted(map(int, chain(*splits.values()))) == list(range(60))


def test_rows_that_are_not_to_be_learnt_are_no_bad_rows(run: Run, project: Path) -> None:
    lines = [{"instruction": f"What is {n}?", "output": f"It is {n}.", "weight": n % 2} for n in range(80)]
    (project / "toy/rows.json").write_text(json.dumps(lines), encoding="utf-8")
    write_params(project, **{"data.bad_rows": "refuse"})
    run("fetch_data", "prepare")
    kept = [answer for split in ("train", "validation", "test") for answer in answers(split)]
    assert sorted(kept) == sorted(f"It is {n}." for n in range(1, 80, 2))
    report = json.loads(Path("results/prepare.json").read_text(encoding="utf-8"))
    (counted,) = [row for row in report["reasons"] if row["reason"] == "nothing_to_learn"]
    assert (counted["rows"], counted["first"][:2]) == (40, ["rows.json, row 1", "rows.json, row 3"])


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
