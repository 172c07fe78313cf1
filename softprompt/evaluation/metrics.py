"""From the losses of each row to what results/metrics.json says of them."""

import math
from typing import Any

import pandas as pd

from softprompt.evaluation.bootstrap import Interval, paired_differences, verdict
from softprompt.evaluation.names import baselines, difference_names, measured


def loss_metrics(losses: pd.DataFrame) -> dict[str, Any]:
    """Loss (nats per label token) and perplexity of each variant, and the paired differences.

    Args:
        losses: a row per row: `question_id`, `tokens`, and for each variant that was measured the summed loss in nats.
    """
    means = mean_losses(losses)
    return {name: {"loss": loss, "perplexity": math.exp(loss)} for name, loss in means.items()} | differences(losses)


def mean_losses(losses: pd.DataFrame) -> dict[str, float]:
    """Of each variant, in nats per label token; `losses` as in `loss_metrics`, here and below."""
    return {variant: float(losses[variant].sum() / losses["tokens"].sum()) for variant in measured(losses)}


def differences(losses: pd.DataFrame) -> dict[str, Interval]:
    """The tuned prompt's loss minus each baseline's, in nats per label token, with intervals."""
    others = [losses[variant].to_numpy() for variant in baselines(losses)]
    tuned, tokens, questions = (losses[name].to_numpy() for name in ("tuned", "tokens", "question_id"))
    return dict(zip(difference_names(losses), paired_differences(tuned, others, tokens, questions), strict=True))


def metrics(losses: pd.DataFrame) -> dict[str, Any]:
    """`loss_metrics` of the test rows, how many they are, the strongest baseline, and the verdict against it."""
    result = loss_metrics(losses)
    strongest = min(baselines(losses), key=lambda variant: result[variant]["loss"])
    result |= {"rows": len(losses), "questions": losses["question_id"].nunique(), "tokens": int(losses["tokens"].sum())}
    return result | {"strongest": strongest, "verdict": verdict(result[f"tuned_minus_{strongest}"])}
