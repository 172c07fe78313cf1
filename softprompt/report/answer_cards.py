"""Which test rows the page shows, and in which order they are before its reader sorts them."""

from dataclasses import dataclass
from typing import Any

from softprompt.report.charts import row_anchor

SHOWN = 500  # answered rows: more would make the page slow
DRAWN = 2000  # points of the scatter


@dataclass(frozen=True)
class Answers:
    """The answered rows.

    Attributes:
        rows: those that are shown, worst gain over the strongest baseline first, each with its `anchor`.
        answered: how many were answered.
        sources: of those that are shown, by name.
    """

    rows: list[dict[str, Any]]
    answered: int
    sources: list[str]


def answers(rows: list[dict[str, Any]], strongest: str) -> Answers:
    """Of at most `SHOWN` rows: those of the lowest example_id, which is a hash, so that no kind of row is left out."""
    answered = [row for row in rows if row.get("tuned_answer") is not None]
    shown = sorted(answered, key=lambda row: row["example_id"])[:SHOWN]
    worst_first = sorted(shown, key=lambda row: (row[f"gain_over_{strongest}"], row["example_id"]))
    return Answers(
        [{**row, "anchor": row_anchor(row["example_id"])} for row in worst_first],
        len(answered),
        sorted({row["source"] for row in shown}),
    )


def drawn_rows(rows: list[dict[str, Any]], shown: set[str]) -> list[dict[str, Any]]:
    """The points of the scatter: at most `DRAWN` rows, `shown` ones before others, by their hashes."""
    return sorted(rows, key=lambda row: (row["example_id"] not in shown, row["example_id"]))[:DRAWN]
