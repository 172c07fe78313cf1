"""Losses of rows, intervals of differences, and what is said about them."""

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from stages.scoring.bootstrap import paired_difference, verdict
from stages.scoring.headline import headline
from stages.scoring.losses import row_losses, with_hard_prompt
from stages.scoring.metrics import metrics
from stages.tokens import IGNORED

GENERATOR = np.random.default_rng(0)


def make_rows() -> list[dict[str, list[int]]]:
    """Nine rows of very unequal lengths; the last label of one is in the middle of the row."""
    rows = []
    for length in (40, 3, 17, 2, 60, 5, 33, 8, 21):
        ids = GENERATOR.integers(3, 300, length).tolist()
        start = max(1, length // 2)
        rows.append({"input_ids": ids, "labels": [IGNORED] * start + ids[start:]})
    rows[4]["labels"][50:] = [IGNORED] * 10
    return rows


def test_row_losses_are_those_of_each_row_alone(toy_model) -> None:
    """Against transformers' own loss, row by row, without padding."""
    model, rows = AutoModelForCausalLM.from_pretrained(toy_model), make_rows()
    losses, tokens = row_losses(model, rows, batch_size=4)
    for row, loss, count in zip(rows, losses, tokens, strict=True):
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        alone = model(input_ids=ids, labels=labels).loss.item()
        assert count == sum(label != IGNORED for label in row["labels"])
        assert loss / count == pytest.approx(alone, rel=1e-5)


def test_a_hard_prompt_stands_first_and_is_not_scored(toy_model) -> None:
    model, rows = AutoModelForCausalLM.from_pretrained(toy_model), make_rows()
    behind = with_hard_prompt(rows, [7, 8, 9])
    assert behind[1]["input_ids"][:4] == [7, 8, 9, rows[1]["input_ids"][0]]
    losses, tokens = row_losses(model, behind, batch_size=4)
    plain, plain_tokens = row_losses(model, rows, batch_size=4)
    assert (tokens == plain_tokens).all()
    assert not np.allclose(losses, plain)


def test_the_mean_is_exactly_the_difference_of_losses_per_token() -> None:
    first, second = GENERATOR.uniform(1, 9, 50), GENERATOR.uniform(1, 9, 50)
    tokens = GENERATOR.integers(1, 30, 50)
    gap = paired_difference(first, second, tokens, np.arange(50))
    assert gap["mean"] == first.sum() / tokens.sum() - second.sum() / tokens.sum()
    assert gap["low"] < gap["mean"] < gap["high"]
    assert gap == paired_difference(first, second, tokens, np.arange(50)), "the same interval every time"


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    hits = 0
    for _ in range(60):
        tokens = GENERATOR.integers(5, 20, 80)
        gap = paired_difference(GENERATOR.normal(0.3, 1, 80) * tokens, np.zeros(80), tokens, np.arange(80))
        hits += gap["low"] < 0.3 < gap["high"]
    assert 50 <= hits <= 60


def test_a_constant_gain_has_no_width() -> None:
    tokens = GENERATOR.integers(1, 30, 50)
    gap = paired_difference(2.0 * tokens, 2.5 * tokens, tokens, np.arange(50))
    assert list(gap.values()) == pytest.approx([-0.5] * 3)


def test_answers_to_one_question_count_as_one() -> None:
    """Thirty copies of a question are no more evidence than one."""
    gains, tokens = GENERATOR.normal(0, 1, 10), np.full(10, 5)
    one = paired_difference(gains, np.zeros(10), tokens, np.arange(10))
    many = paired_difference(np.repeat(gains, 30), np.zeros(300), np.repeat(tokens, 30), np.repeat(np.arange(10), 30))
    assert many["high"] - many["low"] == pytest.approx(one["high"] - one["low"], rel=1e-6)


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(-0.4, -0.1, "helps"), (-0.4, 0.1, "no evidence"), (0.1, 0.4, "harms")]
)
def test_verdict(low: float, high: float, expected: str) -> None:
    assert verdict({"mean": 0.0, "low": low, "high": high}) == expected


def test_metrics_and_headline() -> None:
    losses = pd.DataFrame({"question_id": ["a", "a", "b"], "tokens": [2, 1, 3]})
    losses["bare"], losses["hard"], losses["tuned"] = (
        losses["tokens"] * 2.0,
        losses["tokens"] * 1.5,
        losses["tokens"] * 1.0,
    )
    result = metrics(losses)
    assert result["bare"] == {"loss": 2.0, "perplexity": pytest.approx(np.exp(2))}
    assert result["tuned_minus_bare"]["mean"] == -1.0
    assert (result["rows"], result["questions"], result["tokens"], result["verdict"]) == (3, 2, 6, "helps")
    text = headline(result)
    assert "| tuned prompt |          1.000 |       2.72 |" in text
    assert "-0.500 [-0.500, -0.500]" in text
    assert text.endswith("Against the hard prompt: helps.")
