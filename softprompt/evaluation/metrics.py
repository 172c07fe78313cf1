"""From the losses of each row to what results/metrics.json says of them."""

import math
from typing import Any

import pandas as pd

from softprompt.evaluation.bootstrap import Interval, paired_differences, verdict

VARIANTS = ("base", "hard", "tuned")
DIFFERENCES = tuple(f"tuned_minus_{variant}" for variant in VARIANTS[:-1])


def loss_metrics(losses: pd.DataFrame) -> dict[str, Any]:
    """Loss (nats per label token) and perplexity of each variant, and the paired differences.

    Args:
        losses: a row per row: `question_id`, `tokens`, and for each of `VARIANTS` the summed loss in nats.
    """
    means = mean_losses(losses)
    return {name: {"loss": loss, "perplexity": math.exp(loss)} for name, loss in means.items()} | differences(losses)


def mean_losses(losses: pd.DataFrame) -> dict[str, float]:
    """Of each variant, in nats per label token; `losses` as in `loss_metrics`, here and below."""
    return {variant: float(losses[variant].sum() / losses["tokens"].sum()) for variant in VARIANTS}


def differences(losses: pd.DataFrame) -> dict[str, Interval]:
    """The tuned prompt's loss minus each other variant's, in nats per label token, with intervals."""
    others = [losses[variant].to_numpy() for variant in VARIANTS[:-1]]
    tuned, tokens, questions = (losses[name].to_numpy() for name in ("tuned", "tokens", "question_id"))
    return dict(zip(DIFFERENCES, paired_differences(tuned, others, tokens, questions), strict=True))


def metrics(losses: pd.DataFrame) -> dict[str, Any]:
    """`loss_metrics` of the test rows, how many they are, and the verdict."""
    result = loss_metrics(losses)
    result |= {"rows": len(losses), "questions": losses["question_id"].nunique(), "tokens": int(losses["tokens"].sum())}
    return result | {"verdict": verdict(result["tuned_minus_hard"])}
