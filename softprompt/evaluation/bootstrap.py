"""Paired bootstrap: how far a score, or a difference of two, would move with other questions."""

from collections.abc import Callable

import numpy as np

RESAMPLES = 10_000
SEED = 0  # not `seed` of params.yaml: an interval must not move with the training

Interval = dict[str, float]


def resampled_sums(statistics: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Sums of the columns of `statistics` over each resample of the groups, (RESAMPLES, columns).

    Questions are resampled, not rows: the answers to one question are not independent. Every column is summed over the
    same questions, so what is computed from several of them is paired (Efron and Tibshirani 1993, chapter 8).

    Args:
        statistics: what each row adds to each sum, (rows, columns).
        groups: the question that each row belongs to, (rows,).
    """
    _, group = np.unique(groups, return_inverse=True)
    count = int(group.max()) + 1
    of_group = np.stack([np.bincount(group, column, count) for column in statistics.T], axis=1)
    generator = np.random.default_rng(SEED)
    sums = np.empty((RESAMPLES, statistics.shape[1]))
    for sample in range(RESAMPLES):  # one at a time: memory stays that of one sample
        sums[sample] = of_group[generator.integers(count, size=count)].sum(axis=0)
    return sums


def interval(mean: float, resampled: np.ndarray) -> Interval:
    """`mean`, with the percentile 95% interval of its resampled values."""
    low, high = np.percentile(resampled, [2.5, 97.5])
    return {"mean": float(mean), "low": float(low), "high": float(high)}


def paired_differences(
    first: np.ndarray, others: list[np.ndarray], tokens: np.ndarray, groups: np.ndarray
) -> list[Interval]:
    """`first` minus each of `others` in nats per token over the same rows, with a 95% interval each.

    The statistic is a ratio of sums, so that its mean is exactly the difference of the losses per token.

    Args:
        first, others: summed loss of each row, in nats, shape (rows,).
        tokens: label tokens of each row, shape (rows,).
        groups: the question that each row belongs to, shape (rows,).
    """
    sums = resampled_sums(np.stack([*(first - other for other in others), tokens], axis=1), groups)
    means = [first.sum() / tokens.sum() - other.sum() / tokens.sum() for other in others]
    return [interval(mean, sums[:, column] / sums[:, -1]) for column, mean in enumerate(means)]


def score_intervals(
    statistics: dict[str, np.ndarray], score: Callable[[np.ndarray], float], sums: dict[str, np.ndarray]
) -> dict[str, Interval]:
    """A score of each variant, and the differences of the tuned prompt's to the others', with 95% intervals.

    Args:
        statistics: variant -> what each row adds to the sums that `score` is computed from, (rows, columns).
        score: from summed columns, (columns,), to the score.
        sums: variant -> the resampled sums, (RESAMPLES, columns), over the same questions for every variant.
    """
    means = {variant: score(columns.sum(axis=0)) for variant, columns in statistics.items()}
    resampled = {variant: np.array([score(row) for row in columns]) for variant, columns in sums.items()}
    result = {variant: interval(means[variant], resampled[variant]) for variant in statistics}
    for variant in statistics:
        if variant != "tuned":
            gap = means["tuned"] - means[variant]
            result[f"tuned_minus_{variant}"] = interval(gap, resampled["tuned"] - resampled[variant])
    return result


def verdict(gap: Interval) -> str:
    """ "helps", "no evidence" or "harms": on which side of zero the whole interval of a difference lies."""
    if gap["high"] < 0:
        return "helps"
    return "harms" if gap["low"] > 0 else "no evidence"
