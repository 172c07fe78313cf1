"""Losses of rows, intervals of differences, and what is said about them."""

import numpy as np
import pandas as pd
import pytest

from softprompt.evaluation.bootstrap import Interval, interval, paired_differences, resampled_sums, verdict
from softprompt.evaluation.headline import headline, short_headline
from softprompt.evaluation.metrics import metrics
from softprompt.evaluation.names import NAMES

GENERATOR = np.random.default_rng(0)


def paired_difference(first: np.ndarray, second: np.ndarray, tokens: np.ndarray, groups: np.ndarray) -> Interval:
    """As `paired_differences`, of two."""
    return paired_differences(first, [second], tokens, groups)[0]


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
    losses["base"], losses["hard"], losses["tuned"] = (
        losses["tokens"] * 2.0,
        losses["tokens"] * 1.5,
        losses["tokens"] * 1.0,
    )
    result = metrics(losses)
    assert result["base"] == {"loss": 2.0, "perplexity": pytest.approx(np.exp(2))}
    assert result["tuned_minus_base"]["mean"] == -1.0
    assert (result["rows"], result["questions"], result["tokens"], result["verdict"]) == (3, 2, 6, "helps")
    text = headline(result)
    assert "| tuned prompt |            1.000 |         2.72 |" in text
    assert "few-shot" not in text, "it was not measured"
    assert "-0.500 [-0.500, -0.500]" in text
    line = (
        "Verdict: helps. Against the hard prompt, the strongest baseline without training, the tuned prompt's loss is "
    )
    assert text.endswith(line + "-0.500 [-0.500, -0.500] nats per token.")
    assert short_headline(result) == {"base": 2.0, "hard": 1.5, "tuned": 1.0, "verdict": "helps"}


@pytest.mark.parametrize(
    ("few_shot", "strongest", "said"),
    [(0.9, "few_shot", "harms"), (1.4, "few_shot", "helps"), (1.5, "hard", "helps"), (3.0, "hard", "helps")],
)
def test_the_verdict_is_against_the_strongest_baseline(few_shot: float, strongest: str, said: str) -> None:
    losses = pd.DataFrame({"question_id": ["a", "b"], "tokens": [2, 4]})
    for variant, loss in {"base": 2.0, "hard": 1.5, "few_shot": few_shot, "tuned": 1.0}.items():
        losses[variant] = losses["tokens"] * loss
    result = metrics(losses)
    assert (result["strongest"], result["verdict"]) == (strongest, said)
    assert f"Verdict: {said}. Against the {NAMES[strongest]}, the strongest baseline" in headline(result)
    assert result[f"tuned_minus_{strongest}"]["mean"] == pytest.approx(1 - min(few_shot, 1.5))
    assert short_headline(result)["few_shot"] == pytest.approx(few_shot)


@pytest.mark.parametrize(
    ("low", "high", "effect"), [(0.1, 0.3, "harms"), (-0.3, -0.1, "helps there too"), (-0.1, 0.3, "no evidence")]
)
def test_forgetting_is_said_in_one_line(low: float, high: float, effect: str) -> None:
    losses = pd.DataFrame({"question_id": ["a", "b"], "tokens": [2, 1], "base": [4.0, 2.0], "hard": [3.0, 1.5]})
    result = metrics(losses.assign(tuned=[2.0, 1.0]))
    gap = {"mean": (low + high) / 2, "low": low, "high": high}
    last = headline({**result, "general": {"tuned_minus_base": gap}}).splitlines()[-1]
    assert last.startswith(f"On out-of-domain text: {effect}")
    assert f"[{low:+.3f}, {high:+.3f}]" in last


def test_all_columns_are_summed_over_the_same_questions() -> None:
    columns = np.stack([np.arange(20.0), 3 * np.arange(20.0) + 1, np.ones(20)], axis=1)
    sums = resampled_sums(columns, np.arange(20) // 2)
    assert sums.shape == (10_000, 3)
    assert np.allclose(sums[:, 1], 3 * sums[:, 0] + sums[:, 2])
    assert (sums[:, 2] == 20).all(), "ten questions of two rows each"
    assert interval(9.5, sums[:, 0] / sums[:, 2])["low"] < 9.5 < interval(9.5, sums[:, 0] / sums[:, 2])["high"]
