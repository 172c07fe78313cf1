"""What makes rows equal, what is dropped, and that no question stands in two splits."""

import unicodedata

import numpy as np
import pandas as pd
import pytest

from softprompt.data.rows import clean, instruction_of, make_row, question_key, short_hash
from softprompt.data.rows.cleaning import cleaned, selected
from softprompt.data.rows.splitting import splits_of


def frame(*rows: tuple[str, str, str]) -> pd.DataFrame:
    fetched = {"split": "train", "fault": "", "detail": "", "note": "", "place": "rows.json, row 1"}
    return pd.DataFrame([{**make_row(*row, source="test"), **fetched} for row in rows])


def hashes(ids: pd.Series) -> np.ndarray:
    return ids.map(lambda digits: int(digits, 16)).to_numpy(np.uint64)


def prepared(raw: pd.DataFrame, max_samples: int | None = None) -> tuple[pd.DataFrame, dict[str, int]]:
    rows = cleaned(raw)
    keep, dropped = selected(hashes(rows["example_id"]), rows["fault"], rows["split"], max_samples)
    return rows[keep].reset_index(drop=True), dropped


def test_input_follows_the_instruction_and_comes_off_again() -> None:
    row = make_row(" Add.  ", " 1, 2\n", "3", source="s")
    question = row["messages"][0]["content"]
    assert question == "Add.\n1, 2"
    assert instruction_of(question, row["input"]) == "Add."
    assert instruction_of("Add.", "") == "Add."


def test_questions_are_equal_but_for_case_space_and_composition() -> None:
    decomposed = unicodedata.normalize("NFD", "Où est  le\nCAFÉ ?")
    assert question_key(decomposed) == question_key("où est le café ?")
    assert question_key("Straße") == question_key("STRASSE")
    assert question_key("A b") != question_key("Ab")


def test_texts_are_trimmed_and_composed() -> None:
    rows = cleaned(frame((" e\u0301te\u0301 ", "", "\n summer ")))
    assert [turn["content"] for turn in rows["messages"][0]] == ["été", "summer"]
    assert clean("\u3000全角\u3000") == "全角"


def test_what_is_dropped_is_counted_by_reason() -> None:
    rows, dropped = prepared(
        frame(("a", "", "1"), (" ", "", "2"), ("", "input only", "3"), ("b", "", " "), ("a ", "", "1"), ("a", "", "2"))
    )
    assert dropped == {"without_instruction": 2, "without_output": 1, "duplicate": 1, "over_max_samples": 0}
    assert [row[1]["content"] for row in rows["messages"]] == ["1", "2"]
    assert rows["question_id"].nunique() == 1
    assert rows["example_id"].nunique() == 2


def test_max_rows_is_a_sample_that_order_does_not_change() -> None:
    many = [(f"question {number}", "", "answer") for number in range(200)]
    forwards, dropped = prepared(frame(*many), 50)
    backwards, _ = prepared(frame(*reversed(many)), 50)
    assert dropped["over_max_samples"] == 150
    assert set(forwards["example_id"]) == set(backwards["example_id"])
    splits = splits_of(hashes(forwards["question_id"]), 0.2, 0.2)
    assert len(set(splits)) == 3, "the sample must not be of one split"


def ids(count: int) -> np.ndarray:
    return hashes(pd.Series([short_hash(str(number)) for number in range(count)]))


@pytest.mark.parametrize(("validation", "test"), [(0.1, 0.1), (0.3, 0.2)])
def test_splits_have_the_wanted_sizes(validation: float, test: float) -> None:
    splits = pd.Series(splits_of(ids(20_000), validation, test))
    share = splits.value_counts(normalize=True)
    assert share["validation"] == pytest.approx(validation, abs=0.01)
    assert share["test"] == pytest.approx(test, abs=0.01)


def test_changing_one_fraction_leaves_the_other_split_alone() -> None:
    for split, before, after in (("test", (0.1, 0.1), (0.4, 0.1)), ("validation", (0.1, 0.1), (0.1, 0.4))):
        assert ((splits_of(ids(2000), *before) == split) == (splits_of(ids(2000), *after) == split)).all()
