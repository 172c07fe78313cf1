"""Slices of the test rows, grouped by what they are slices of, each group with its chart."""

from dataclasses import dataclass
from itertools import groupby
from typing import Any

from markupsafe import Markup

from softprompt.report.charts import slice_chart


@dataclass(frozen=True)
class Group:
    """Slices of one kind.

    Attributes:
        by: what they are slices of, such as "answer length".
        slices: as in metrics.json.
        chart: of those with an interval, None where none has one.
    """

    by: str
    slices: list[dict[str, Any]]
    chart: Markup | None


def slice_groups(slices: list[dict[str, Any]], strongest: str) -> list[Group]:
    """In the order of metrics.json; all charts share one axis, which has zero on it."""
    name = f"tuned_minus_{strongest}"
    gaps = [part[name] for part in slices if part[name]]
    low, high = min([0.0, *(gap["low"] for gap in gaps)]), max([0.0, *(gap["high"] for gap in gaps)])
    margin = 0.05 * (high - low)
    groups = []
    for by, parts in groupby(slices, key=lambda part: part["by"]):
        of_kind = list(parts)
        drawn = any(part[name] for part in of_kind)
        bounds = (low - margin, high + margin)
        groups.append(Group(by, of_kind, slice_chart(of_kind, strongest, bounds) if drawn else None))
    return groups
