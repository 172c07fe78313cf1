"""Which columns of a data set make a row: known names, or the ones in `data.columns`.

A known format is one line in `LAYOUTS`.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from softprompt.config.data import Data
from softprompt.data.readers.conversations import conversation
from softprompt.data.rows import make_row
from softprompt.runtime.errors import InputError
from softprompt.runtime.text import is_text


@dataclass(frozen=True)
class Layout:
    """Names of the columns: a question (with perhaps an input) and an answer, or a whole conversation."""

    instruction: str | None = None
    input: str | None = None
    output: str | None = None
    messages: str | None = None

    def names(self) -> dict[str, str]:
        """Key of `data.columns` -> name of the column."""
        return {key: name for key, name in vars(self).items() if name is not None}

    def row(self, place: str, record: dict[str, Any], source: str) -> dict:
        """A row of `softprompt.data.rows.RAW_SCHEMA`.

        Raises:
            InputError: if a cell is not what the layout says; begins with `place`.
        """
        if self.messages is not None:
            return {"messages": conversation(place, record[self.messages]), "input": "", "source": source}
        question, answer = record[self.instruction or ""], record[self.output or ""]
        if isinstance(question, list) and isinstance(answer, list):  # TRL's conversational prompt and completion
            return {"messages": conversation(place, [*question, *answer]), "input": "", "source": source}
        instruction, output = cell_text(place, record, self.instruction), cell_text(place, record, self.output)
        return make_row(instruction, cell_text(place, record, self.input), output, source=source)


LAYOUTS = {
    "alpaca": (Layout("instruction", "input", "output"),),
    "prompt_completion": (
        Layout("prompt", None, "completion"),
        Layout("prompt", None, "response"),
        Layout("question", None, "answer"),
        Layout("query", None, "response"),
        Layout("instruction", "context", "response"),
    ),
    # ShareGPT's turns have "from" and "value" where others have "role" and "content": told apart turn by turn.
    "chat": (Layout(messages="messages"), Layout(messages="conversations"), Layout(messages="conversation")),
}


def layout_of(place: str, found: Iterable[str], data: Data) -> Layout:
    """The layout of a table with the columns `found`.

    Raises:
        InputError: if no layout fits, or more than one; begins with `place` and lists the columns.
    """
    found = list(found)
    named = {key: name for key, name in data.columns.model_dump().items() if name is not None}
    fitting: dict[Layout, None] = {}
    missing: list[tuple[str, str]] = []
    for layout in _candidates(data.format, named):
        # An input is optional under its known names only: a column that was named must be there.
        optional = {layout.input} if "input" not in named else set()
        lacking = [(key, name) for key, name in layout.names().items() if name not in {*found, *optional}]
        missing = missing or lacking
        if not lacking:
            fitting[layout if layout.input in found else replace(layout, input=None)] = None
    has = ", ".join(found) or "none"
    if not fitting and (named or data.format == "alpaca"):
        key, name = missing[0]
        raise InputError(f"{place}: no column {name!r} (data.columns.{key}); the columns are {has}")
    if not fitting:
        known = "; ".join(" + ".join(layout.names().values()) for layout in _candidates(data.format, named))
        raise InputError(f"{place}: the columns are {has}; known are {known}; name others in data.columns")
    if len(fitting) > 1:
        several = " and ".join(" + ".join(layout.names().values()) for layout in fitting)
        raise InputError(f"{place}: the columns {several} would both do; choose with data.format or data.columns")
    (layout,) = fitting
    for key, name in layout.names().items():
        if found.count(name) > 1:
            raise InputError(f"{place}: {found.count(name)} columns have the name {name!r} (data.columns.{key})")
    return layout


def _candidates(format: str, named: dict[str, str]) -> list[Layout]:
    """The layouts of `format`, with the named columns in place of known ones."""
    layouts = [layout for name, group in LAYOUTS.items() if format in ("auto", name) for layout in group]
    if "messages" in named or {"instruction", "output"} <= named.keys():
        return [Layout(**named)]  # nothing is added to what was named whole
    pairs = [layout for layout in layouts if layout.messages is None] if named else layouts
    return list(dict.fromkeys(replace(layout, **named) for layout in pairs))


def cell_text(place: str, record: dict[str, Any], name: str | None) -> str:
    """The text in the cell `name`; of a missing cell, and without a name, the empty text.

    Raises:
        InputError: if something else is in it; begins with `place`.
    """
    value = record.get(name) if name is not None else None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""  # a missing cell; prepare counts and drops the row if it needs one
    if not is_text(value):
        shown = json.dumps(value, default=str, ensure_ascii=False)[:60]
        raise InputError(f"{place}: column {name!r} holds {shown}, not text")
    return value
