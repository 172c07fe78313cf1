"""The hard prompt where it serves best: each text in the place of the virtual tokens and as system turn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from softprompt.data.rows import Message
from softprompt.data.rows.parts import PART
from softprompt.data.templates import Encoded, Template
from softprompt.data.templates.rendering import RowError
from softprompt.data.tokens import IGNORED, Row
from softprompt.runtime.errors import InputError

IN_FRONT, SYSTEM_TURN = "in front", "system turn"


@dataclass(frozen=True)
class HardPrompt:
    """A text written by hand.

    Attributes:
        text: it.
        ids: its tokens.
        place: `IN_FRONT` of the row, where the virtual tokens are, or `SYSTEM_TURN` of the row. Text without a
            template has it in front either way.
    """

    text: str
    ids: list[int]
    place: str = IN_FRONT


def with_system_turn(messages: Sequence[Message], text: str, usual: str | None) -> list[Message]:
    """`messages` with `text` as system turn, after their own or the `usual` one and a blank line."""
    own = messages[0]["content"] if messages and messages[0]["role"] == "system" else usual
    turn: Message = {"role": "system", "content": f"{own}\n\n{text}" if own else text}
    return [turn, *(other for place, other in enumerate(messages) if place or other["role"] != "system")]


def rows_with_system_turn(tokens: Dataset, prepared: Path, template: Template, text: str) -> Dataset:
    """The rows of a tokenized split, with `text` as system turn and the same label tokens; a part at a time.

    Args:
        tokens: of `softprompt.data.tokens.TOKENIZED_SCHEMA`.
        prepared: the parquet file that it was made from.
        template: what made it.
        text: the hard prompt.

    Raises:
        InputError: if the template doesn't take it, or writes the answers otherwise then.
    """
    kept, found = iter(tokens.select_columns(["example_id", "input_ids", "labels"])), list[pa.RecordBatch]()
    row = next(kept, None)
    with pq.ParquetFile(prepared) as file:
        for part in file.iter_batches(PART, columns=["example_id", "messages", "input"]):
            before, given = list[dict](), list[dict]()
            for one in part.to_pylist():
                if row is not None and one["example_id"] == row["example_id"]:  # tokenizing keeps the order
                    messages = with_system_turn(one["messages"], text, template.system)
                    given.append({**one, "messages": messages})
                    before.append(row)
                    row = next(kept, None)
            rendered = list(_rendered(template, given, before))
            found.append(pa.RecordBatch.from_pylist(rendered, SCHEMA))
    return Dataset(pa.Table.from_batches(found, SCHEMA))


SCHEMA = pa.schema([(name, pa.list_(pa.int32())) for name in ("input_ids", "labels")])


def _rendered(template: Template, rows: list[dict], before: list[dict]) -> Iterator[Row]:
    for encoded, row in zip(template.encode(rows, None), before, strict=True):
        if isinstance(encoded, RowError):
            raise encoded
        assert isinstance(encoded, Encoded), "without a largest length no row is too long"
        yield _with_labels_of(row, encoded)


def _with_labels_of(row: dict, encoded: Encoded) -> Row:
    """As far as the labels of `row` go, which may have been truncated."""
    labels = [label for label in row["labels"] if label != IGNORED]
    places = [place for place, label in enumerate(encoded.labels) if label != IGNORED][: len(labels)]
    if [encoded.labels[place] for place in places] != labels:
        raise InputError("with a system turn the template writes an answer otherwise")
    first, end = places[0], places[-1] + 1
    if encoded.input_ids[:first] == row["input_ids"][:first]:
        raise InputError("the template writes no system turn")
    return {"input_ids": encoded.input_ids[:end], "labels": encoded.labels[:end]}
