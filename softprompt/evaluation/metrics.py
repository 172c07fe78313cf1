"""From the losses of each row to what results/metrics.json says of them."""

import math
from typing import Any

import pandas as pd

from softprompt.evaluation.bootstrap import paired_differences, verdict

VARIANTS = ("base", "hard", "tuned")


def loss_metrics(losses: pd.DataFrame) -> dict[str, Any]:
    """Loss (nats per label token) and perplexity of each variant, and the paired differences.

    Args:
        losses: a row per row: `question_id`, `tokens`, and for each of `VARIANTS` the summed loss in nats.
    """
    tokens = losses["tokens"].to_numpy()
    result: dict[str, Any] = {}
    for variant in VARIANTS:
        loss = float(losses[variant].sum() / tokens.sum())
        result[variant] = {"loss": loss, "perplexity": math.exp(loss)}
    others = [losses[variant].to_numpy() for variant in VARIANTS[:-1]]
    gaps = paired_differences(losses["tuned"].to_numpy(), others, tokens, losses["question_id"].to_numpy())
    return result | {f"tuned_minus_{variant}": gap for variant, gap in zip(VARIANTS[:-1], gaps, strict=True)}


def metrics(losses: pd.DataFrame) -> dict[str, Any]:
    """`loss_metrics` of the test rows, how many they are, and the verdict."""
    result = loss_metrics(losses)
    result |= {"rows": len(losses), "questions": losses["question_id"].nunique(), "tokens": int(losses["tokens"].sum())}
    return result | {"verdict": verdict(result["tuned_minus_hard"])}
