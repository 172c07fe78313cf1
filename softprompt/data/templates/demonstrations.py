"""Training rows as examples in the context: one conversation in the template's own turns, in front of each row."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from softprompt.data.rows import Message, short_hash
from softprompt.data.templates import Template
from softprompt.data.templates.rendering import RowError

TRIED = 512  # rows that are looked at for ones that fit
# Of the room that one row may take where their number is open: several short ones show more than one long one. The
# first one brings the system turn along.
SHARE, SHARE_OF_FIRST = 1 / 4, 1 / 2


@dataclass(frozen=True)
class Demonstrations:
    """Examples in the context.

    Attributes:
        ids: the tokens of the conversation that they make.
        example_ids: of the rows that are in it, in its order.
    """

    ids: list[int]
    example_ids: list[str]


def demonstrations(
    template: Template,
    example_ids: Sequence[str],
    prepared: Path,
    *,
    seed: int,
    room: int,
    count: int | None = None,
) -> Demonstrations:
    """Rows as examples, in an order by hash: each that still fits, up to `count`.

    The system turn is that of the first one; where the template refuses a row after the others, it is passed over.
    Where the number is open, no row takes more than its share of the room.

    Args:
        template: what the rows are put in.
        example_ids: those of the rows to choose from.
        prepared: the parquet file that has the rows.
        seed: another one, other rows; more data moves few.
        room: tokens that the conversation may have.
        count: rows at most; None: as many as fit.
    """
    ranked = sorted(example_ids, key=lambda name: short_hash(f"{seed} {name}"))[:TRIED]
    found = pq.read_table(prepared, columns=["example_id", "messages"], filters=[("example_id", "in", ranked)])
    of_row: dict[str, list[Message]] = {row["example_id"]: row["messages"] for row in found.to_pylist()}
    turns: list[Message] = []
    chosen = Demonstrations([], [])
    for name in ranked:
        if len(chosen.example_ids) == count or room == len(chosen.ids):
            break
        last = max(place for place, turn in enumerate(of_row[name]) if turn["role"] == "assistant")
        longer = turns + [turn for turn in of_row[name][: last + 1] if not turns or turn["role"] != "system"]
        try:
            ids = template.conversation_ids(longer)
        except RowError:
            continue
        share = 1.0 if count is not None else SHARE if turns else SHARE_OF_FIRST
        if len(ids) <= room and len(ids) - len(chosen.ids) <= room * share:
            turns, chosen = longer, Demonstrations(ids, [*chosen.example_ids, name])
    return chosen
