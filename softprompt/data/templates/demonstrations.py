"""Training rows as examples in the context: one conversation in the template's own turns, in front of each row."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from softprompt.data.rows import short_hash
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

    Where the template refuses a row after the others, or an answer in it is not to be learnt, it is passed over.
    Where the number is open, no row takes more than its share of the room.

    Args:
        template: what the rows are put in.
        example_ids: those of the rows to choose from.
        prepared: the parquet file that has the rows.
        seed: another one, other rows; more data moves few.
        room: tokens that the conversation may have.
        count: rows at most; None: as many as fit.
    """
    ranked = sorted(example_ids, key=lambda name: short_hash(f"{seed} {name}"))[: max(TRIED, 2 * (count or 0))]
    columns = ["example_id", "messages", "input"]
    found = pq.read_table(prepared, columns=columns, filters=[("example_id", "in", ranked)])
    of_name = {row["example_id"]: row for row in found.to_pylist()}
    rows: list[dict] = []
    chosen = Demonstrations([], [])
    for name in ranked:
        if len(chosen.example_ids) == count or room == len(chosen.ids):
            break
        answers = [place for place, turn in enumerate(of_name[name]["messages"]) if turn["role"] == "assistant"]
        shown = {**of_name[name], "messages": of_name[name]["messages"][: answers[-1] + 1]}
        if any(shown["messages"][place].get("weight") == 0 for place in answers):  # not to be learnt from
            continue
        try:
            ids = template.conversation_ids([*rows, shown])
        except RowError:
            continue
        share = 1.0 if count is not None else SHARE if rows else SHARE_OF_FIRST
        if len(ids) <= room and len(ids) - len(chosen.ids) <= room * share:
            rows, chosen = [*rows, shown], Demonstrations(ids, [*chosen.example_ids, name])
    return chosen
