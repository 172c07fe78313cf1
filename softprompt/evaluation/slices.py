"""Loss by slice of the test rows: where the prompt helps, and where not."""

from typing import Any

import numpy as np
import pandas as pd

from softprompt.evaluation.metrics import differences, mean_losses
from softprompt.evaluation.names import difference_names

PARTS = 3  # of a length: short, middle, long, of about as many rows each
SOURCES = 12  # that are shown by name: those with the most rows
FEWEST_QUESTIONS = 5  # with fewer, resampling them says nothing of others


def slices(losses: pd.DataFrame) -> list[dict[str, Any]]:
    """Losses (nats per label token) and paired differences of each slice: by lengths, and by source if there are two.

    Args:
        losses: as `softprompt.evaluation.metrics.metrics` takes them, with `question_tokens` and `source`.
    """
    kinds = {
        "answer length": _by_length(losses["tokens"]),
        "question length": _by_length(losses["question_tokens"]),
        "source": _by_source(losses["source"]),
    }
    return [
        {"by": kind, "slice": name, **_losses_of(losses[labels == name])}
        for kind, labels in kinds.items()
        if labels.nunique() > 1
        for name in labels.cat.categories
    ]


def _by_length(tokens: pd.Series) -> pd.Series:
    """The slice of each row, named by the lengths that occur in it; ordered."""
    edges = np.quantile(tokens, np.arange(1, PARTS) / PARTS)
    part = pd.Series(np.searchsorted(edges, tokens), index=tokens.index)
    bounds = tokens.groupby(part).agg(["min", "max"])
    names = {number: _range(*pair) for number, pair in zip(bounds.index, bounds.to_numpy().tolist(), strict=True)}
    return part.map(names).astype(pd.CategoricalDtype([names[number] for number in sorted(names)]))


def _range(low: int, high: int) -> str:
    return f"{low} tokens" if low == high else f"{low} to {high} tokens"


def _by_source(sources: pd.Series) -> pd.Series:
    counts = sources.value_counts().to_dict()
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    rest = f"{len(ranked) - SOURCES} others"
    named = ranked if len(ranked) <= SOURCES else [*ranked[:SOURCES], rest]
    return sources.where(sources.isin(named), rest).astype(pd.CategoricalDtype(named))


def _losses_of(rows: pd.DataFrame) -> dict[str, Any]:
    questions = rows["question_id"].nunique()
    result = {"rows": len(rows), "questions": questions, "tokens": int(rows["tokens"].sum()), **mean_losses(rows)}
    return result | (differences(rows) if questions >= FEWEST_QUESTIONS else dict.fromkeys(difference_names(rows)))
