"""Paired bootstrap of a difference in loss per token."""

import numpy as np

RESAMPLES = 10_000
SEED = 0  # not `seed` of params.yaml: an interval must not move with the training


def paired_difference(
    first: np.ndarray, second: np.ndarray, tokens: np.ndarray, groups: np.ndarray
) -> dict[str, float]:
    """`first` minus `second` in nats per token over the same rows, with a percentile 95% interval.

    Questions are resampled, not rows: the answers to one question are not independent. The statistic is a ratio of
    sums, so that its mean is exactly the difference of the losses per token (Efron and Tibshirani 1993, chapter 13).

    Args:
        first, second: summed loss of each row, in nats, shape (rows,).
        tokens: label tokens of each row, shape (rows,).
        groups: the question that each row belongs to, shape (rows,).

    Returns:
        mean, low and high.
    """
    _, group = np.unique(groups, return_inverse=True)
    count = int(group.max()) + 1
    difference = np.bincount(group, first - second, count)
    size = np.bincount(group, tokens, count)
    generator = np.random.default_rng(SEED)
    ratios = np.empty(RESAMPLES)
    for sample in range(RESAMPLES):  # one at a time: memory stays that of one sample
        drawn = generator.integers(count, size=count)
        ratios[sample] = difference[drawn].sum() / size[drawn].sum()
    low, high = np.percentile(ratios, [2.5, 97.5])
    mean = first.sum() / tokens.sum() - second.sum() / tokens.sum()
    return {"mean": float(mean), "low": float(low), "high": float(high)}


def verdict(tuned_minus_hard: dict[str, float]) -> str:
    """ "helps", "no evidence" or "harms": on which side of zero the whole interval lies."""
    if tuned_minus_hard["high"] < 0:
        return "helps"
    return "harms" if tuned_minus_hard["low"] > 0 else "no evidence"
