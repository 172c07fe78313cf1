"""From the losses of each row to results/metrics.json."""

import math
from typing import Any

import pandas as pd

from stages.scoring.bootstrap import paired_difference, verdict

RIVALS = ("bare", "hard", "tuned")


def metrics(losses: pd.DataFrame) -> dict[str, Any]:
    """Loss (nats per label token) and perplexity of each rival, the paired differences, and the verdict.

    Args:
        losses: a row per test row: `question_id`, `tokens`, and for each of `RIVALS` the summed loss in nats.
    """
    tokens = losses["tokens"].to_numpy()
    result: dict[str, Any] = {}
    for rival in RIVALS:
        loss = float(losses[rival].sum() / tokens.sum())
        result[rival] = {"loss": loss, "perplexity": math.exp(loss)}
    for rival in ("bare", "hard"):
        result[f"tuned_minus_{rival}"] = paired_difference(
            losses["tuned"].to_numpy(), losses[rival].to_numpy(), tokens, losses["question_id"].to_numpy()
        )
    result |= {"rows": len(losses), "questions": losses["question_id"].nunique(), "tokens": int(tokens.sum())}
    return result | {"verdict": verdict(result["tuned_minus_hard"])}
