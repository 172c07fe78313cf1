"""Which columns of a data set make a row: known names, or the ones in `data.columns`."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from softprompt.config.data import Data
from softprompt.data.readers.conversations import answered, conversation, text_of, weight_of
from softprompt.data.readers.faults import BadRowError, shown
from softprompt.data.rows import Message, make_row
from softprompt.runtime.errors import InputError
from softprompt.runtime.text import is_text

QUESTIONS = ("instruction", "prompt", "question", "query")
ANSWERS = ("output", "completion", "response", "answer")
# Of each format the columns that a row needs. ShareGPT's turns are told from others turn by turn.
FORMATS: dict[str, tuple[dict[str, str], ...]] = {
    "alpaca": ({"instruction": "instruction", "output": "output"},),
    "prompt_completion": tuple(
        {"instruction": question, "output": answer}
        for question, answer in product(QUESTIONS, ANSWERS)
        if (question, answer) != ("instruction", "output")
    ),
    "chat": tuple({"messages": name} for name in ("messages", "conversations", "conversation")),
}
# Columns that a row may have besides, under these names or the one in `data.columns`.
OPTIONAL: dict[str, tuple[str, ...]] = {
    "input": ("input", "context", "article"),
    "system": ("system", "system_prompt"),
    "history": ("history",),
    "weight": ("weight",),
    "reasoning_content": ("reasoning_content",),
    "tools": ("tools",),
}
BESIDE_MESSAGES = ("system", "tools", "weight")  # the others are part of a conversation's turns


@dataclass(frozen=True)
class Layout:
    """Names of the columns by what they are: a key of `data.columns` -> the column.

    Attributes:
        needed: a question and an answer, or a whole conversation.
        besides: what else there is.
    """

    needed: dict[str, str]
    besides: dict[str, str]

    def names(self) -> dict[str, str]:
        """All of them."""
        return {**self.needed, **self.besides}

    def row(self, record: dict[str, Any], unused: set[str]) -> dict:
        """The messages, the input and the note of a row of `softprompt.data.rows.RAW_SCHEMA`.

        Args:
            record: cell by column; a missing one is empty.
            unused: names of the turns' keys that are not used are added to it.

        Raises:
            BadRowError: if a cell is not what the layout says.
        """
        if not any(name in record for name in self.needed.values()):
            keys = ", ".join(map(str, record)) or "none"
            raise BadRowError("other_columns", f"the columns are {keys}; needed are {', '.join(self.needed.values())}")
        cells = {key: _present(record.get(name)) for key, name in self.names().items()}
        if cells.get("tools") not in (None, [], {}, "", "[]", "{}"):
            raise BadRowError(
                "tools", "tools are given, which is not trained on; data.columns.ignore can pass over them"
            )
        system, input = text_of(cells.get("system"), "the system text"), ""
        if "messages" in self.needed:
            messages = conversation(cells["messages"], unused)
        elif isinstance(cells["instruction"], list) and isinstance(cells["output"], list):
            # TRL's conversational prompt and completion
            messages = conversation([*cells["instruction"], *cells["output"]], unused)
        else:
            texts = {key: cell_text(cells, self.names(), key) for key in ("instruction", "input", "output")}
            row = make_row(**texts, source="")
            messages, input = row["messages"], row["input"]
            if thought := cell_text(cells, self.names(), "reasoning_content"):
                messages[-1]["reasoning_content"] = thought
        if earlier := _history(cells.get("history"), unused):
            messages, input = earlier + messages, ""  # the input stands in the last question, not in the first
        if system.strip():
            if messages[0]["role"] == "system":
                raise BadRowError("late_system_turn", "a system text beside a system turn")
            messages = [{"role": "system", "content": system}, *messages]
        if (weight := weight_of(cells.get("weight"))) is not None:
            for message in messages:
                if message["role"] == "assistant":
                    message.setdefault("weight", weight)
        messages, note = answered(messages)
        return {"messages": messages, "input": input, "note": note}


def layouts_of(place: str, found: list[str], data: Data) -> list[Layout]:
    """The layouts that fit a table with the columns `found`.

    Args:
        place: the table's name.
        found: its columns.
        data: the section of params.yaml.

    Raises:
        InputError: if no layout fits; begins with `place` and lists the columns.
    """
    columns = [name for name in found if name not in data.columns.ignore]
    given = {key: name for key, name in data.columns.model_dump().items() if key != "ignore" and name is not None}
    has = ", ".join(map(str, columns)) or "none"
    for key, name in given.items():
        if name not in columns:
            raise InputError(f"{place}: no column {name!r} (data.columns.{key}); the columns are {has}")
    candidates = list(_candidates(data.format, given))
    fitting = [needed for needed in candidates if set(needed.values()) <= set(columns)]
    if not fitting:
        known = _known(candidates)
        raise InputError(f"{place}: the columns are {has}; known are {known}; name others in data.columns")
    layouts = [Layout(needed, _besides(place, columns, needed, given)) for needed in fitting]
    for layout in layouts:
        for key, name in layout.names().items():
            if columns.count(name) > 1:
                raise InputError(f"{place}: {columns.count(name)} columns have the name {name!r} (data.columns.{key})")
    return layouts


def refuse_several(place: str, layouts: list[Layout]) -> None:
    """Refuse a choice between layouts that nothing decides.

    Raises:
        InputError: if there are several.
    """
    if len(layouts) > 1:
        several = " and ".join(" + ".join(layout.needed.values()) for layout in layouts)
        raise InputError(f"{place}: the columns {several} would both do; choose with data.format or data.columns")


def cell_text(cells: dict[str, Any], names: dict[str, str], key: str) -> str:
    """The text in the cell `key`; of a missing one the empty text.

    Raises:
        BadRowError: if something else is in it.
    """
    value = _present(cells.get(key))
    if value is not None and not is_text(value):
        raise BadRowError("not_text", f"column {names[key]!r} holds {shown(value)}, not text")
    return value or ""


def _candidates(format: str, given: dict[str, str]) -> Iterator[dict[str, str]]:
    """The needed columns of each layout of `format`, with the given ones in place of known ones."""
    if "messages" in given:
        yield {"messages": given["messages"]}
        return
    pair: dict[str, str] = {key: given[key] for key in ("instruction", "output") if key in given}
    if len(pair) == 2:
        yield pair
        return
    seen: list[dict[str, str]] = []
    for name, group in FORMATS.items():
        for needed in group if format in ("auto", name) else ():
            if pair and "messages" in needed:
                continue
            filled: dict[str, str] = {**needed, **pair}
            if filled not in seen:
                seen.append(filled)
                yield filled


def _known(candidates: list[dict[str, str]]) -> str:
    """The needed columns of all candidates, in few words."""
    names = {
        key: " or ".join(dict.fromkeys(needed[key] for needed in candidates if key in needed))
        for key in ("instruction", "output", "messages")
    }
    pair = f"{names['instruction']} with {names['output']}" if names["instruction"] else ""
    return "; ".join(filter(None, [pair, names["messages"] and f"{names['messages']} with conversations"]))


def _besides(place: str, columns: list[str], needed: dict[str, str], given: dict[str, str]) -> dict[str, str]:
    besides: dict[str, str] = {}
    for key, names in OPTIONAL.items():
        if "messages" in needed and key not in BESIDE_MESSAGES:
            continue
        known = [name for name in names if name in columns and name not in (*needed.values(), *given.values())]
        if key in given:
            besides[key] = given[key]
        elif len(known) > 1:
            raise InputError(
                f"{place}: the columns {' and '.join(known)} could both be the {key}; name one in data.columns.{key}, "
                "or the other in data.columns.ignore"
            )
        elif known:
            besides[key] = known[0]
    return besides


def _history(value: Any, unused: set[str]) -> list[Message]:
    """Earlier turns: pairs of question and answer, as lists, or turns of a conversation."""
    if isinstance(value, list) and value and all(isinstance(pair, list) for pair in value):
        if not all(len(pair) == 2 for pair in value):
            raise BadRowError("history", "the history has an entry that is no pair of question and answer")
        return [
            {"role": role, "content": text_of(said, "the history")}
            for pair in value
            for role, said in zip(("user", "assistant"), pair, strict=True)
        ]
    return conversation(value, unused) if value not in (None, [], "", "[]") else []


def _present(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
