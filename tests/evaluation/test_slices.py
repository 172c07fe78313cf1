"""Loss by slice."""

import numpy as np
import pandas as pd
import pytest

from softprompt.evaluation.names import NAMES
from softprompt.evaluation.slices import slices


def losses(**columns) -> pd.DataFrame:
    generator, rows = np.random.default_rng(0), 60
    table = pd.DataFrame({"question_id": [f"q{n}" for n in range(rows)], "tokens": generator.integers(1, 50, rows)})
    for variant in NAMES:
        table[variant] = generator.uniform(1, 3, rows) * table["tokens"]
    return table.assign(question_tokens=generator.integers(20, 80, rows), source="one").assign(**columns)


def test_slices_of_a_kind_are_all_rows_once() -> None:
    table = losses(source=["a", "b", "c"] * 20)
    found = pd.DataFrame(slices(table))
    assert list(found["by"].unique()) == ["answer length", "question length", "source"]
    for _, kind in found.groupby("by"):
        assert kind["rows"].sum() == 60
        assert kind["tokens"].sum() == table["tokens"].sum()
        for variant in NAMES:
            assert (kind[variant] * kind["tokens"]).sum() == pytest.approx(table[variant].sum())


def test_lengths_are_in_order_and_named_by_what_occurs() -> None:
    table = losses()
    names = [part["slice"] for part in slices(table) if part["by"] == "answer length"]
    bounds = [[int(word) for word in name.split() if word.isdigit()] for name in names]
    assert bounds == sorted(bounds)
    assert bounds[0][0] == table["tokens"].min()
    assert bounds[-1][-1] == table["tokens"].max()


def test_one_source_or_one_length_is_no_slice() -> None:
    assert {part["by"] for part in slices(losses(tokens=7))} == {"question length"}


def test_few_questions_have_no_interval() -> None:
    table = losses(source=["rare"] * 4 + ["usual"] * 56)
    rare = next(part for part in slices(table) if part["slice"] == "rare")
    assert rare["tuned_minus_hard"] is rare["tuned_minus_base"] is rare["tuned_minus_few_shot"] is None
    assert rare["questions"] == 4
    usual = next(part for part in slices(table) if part["slice"] == "usual")
    assert usual["tuned_minus_hard"]["mean"] == pytest.approx(usual["tuned"] - usual["hard"])


def test_many_sources_end_with_the_others() -> None:
    names = [part["slice"] for part in slices(losses(source=[f"s{n % 20:02}" for n in range(60)]))][-13:]
    assert names == [*(f"s{n:02}" for n in range(12)), "8 others"]
