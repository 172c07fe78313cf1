"""Which columns of a data set make a row: known names, or the ones in `data.columns`."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, product
from typing import Any

from softprompt.config.data import Data
from softprompt.data.readers.conversations import answered, conversation, from_json, text_of, weight_of
from softprompt.data.readers.faults import BadRowError, shown
from softprompt.data.rows import Message, make_row
from softprompt.runtime.errors import InputError
from softprompt.runtime.text import is_text

ALPACA = ("instruction", "input", "output")
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
        besides: what else there is; a record has one of several columns that are the same.
    """

    needed: dict[str, str]
    besides: dict[str, tuple[str, ...]]

    def names(self) -> list[str]:
        """All columns."""
        return [*self.needed.values(), *chain(*self.besides.values())]

    def row(self, record: dict[str, Any], unused: set[str]) -> dict:
        """The messages, the input and the note of a row of `softprompt.data.rows.RAW_SCHEMA`.

        Args:
            record: cell by column; a missing one is empty.
            unused: names of the turns' keys that are not used are added to it.

        Raises:
            BadRowError: if a cell is not what the layout says.
        """
        cells = self._cells(record)
        if cells.get("tools") not in (None, [], {}, "", "[]", "{}"):
            raise BadRowError("tools", "tools are given, which are not trained on (see data.columns.ignore)")
        messages, input = self._asked_and_answered(cells, unused)
        if earlier := _history(cells.get("history"), unused):
            messages, input = earlier + messages, ""  # the input stands in the last question, not in the first
        if (system := text_of(cells.get("system"), "the system text")).strip():
            if messages[0]["role"] == "system":
                raise BadRowError("late_system_turn", "a system text beside a system turn")
            messages = [{"role": "system", "content": system}, *messages]
        if (weight := weight_of(cells.get("weight"))) is not None:
            for message in messages:
                if message["role"] == "assistant":
                    message.setdefault("weight", weight)
        messages, note = answered(messages)
        return {"messages": messages, "input": input, "note": note}

    def _cells(self, record: dict[str, Any]) -> dict[str, Any]:
        """Key of `data.columns` -> cell; None: it is missing."""
        if not any(name in record for name in self.needed.values()):
            keys = ", ".join(map(str, record)) or "none"
            raise BadRowError("other_columns", f"the columns are {keys}; needed are {', '.join(self.needed.values())}")
        cells = {key: _present(record.get(name)) for key, name in self.needed.items()}
        for key, names in self.besides.items():
            given = [name for name in names if _present(record.get(name)) not in (None, "")]
            if len(given) > 1:
                raise BadRowError("several_layouts", f"the columns {' and '.join(given)} could both be the {key}")
            cells[key] = record[given[0]] if given else None
        return cells

    def _asked_and_answered(self, cells: dict[str, Any], unused: set[str]) -> tuple[list[Message], str]:
        """The messages without history and system text, and the part of the first that was an input."""
        if "messages" in self.needed:
            return conversation(cells["messages"], unused), ""
        if isinstance(cells["instruction"], list) and isinstance(cells["output"], list):
            # TRL's conversational prompt and completion
            if beside := [key for key in ("input", "reasoning_content") if cells.get(key)]:
                raise BadRowError("several_layouts", f"beside lists of turns there is {' and '.join(beside)}")
            return conversation([*cells["instruction"], *cells["output"]], unused), ""
        names = {**{key: names[0] for key, names in self.besides.items()}, **self.needed}
        texts = {key: cell_text(cells, key, names.get(key, key)) for key in (*ALPACA, "reasoning_content")}
        row = make_row(texts["instruction"], texts["input"], texts["output"], source="")
        if thought := texts["reasoning_content"]:
            row["messages"][-1]["reasoning_content"] = thought
        return row["messages"], row["input"]


def layouts_of(place: str, found: list[str], data: Data, *, varies: bool) -> list[Layout]:
    """The layouts that fit a table with the columns `found`; one, unless its records vary.

    Args:
        place: the table's name.
        found: its columns.
        data: the section of params.yaml.
        varies: whether a record may lack columns that others have.

    Raises:
        InputError: if no layout fits, or nothing decides between several; begins with `place` and lists the columns.
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
    layouts = [Layout(needed, _besides(columns, needed, given)) for needed in fitting]
    for name in chain(*(layout.names() for layout in layouts)):
        if columns.count(name) > 1:
            raise InputError(f"{place}: {columns.count(name)} columns have the name {name!r}")
    if not varies:
        _refuse_several(place, layouts)
    return layouts


def layout_of(layouts: list[Layout], record: dict[str, Any]) -> Layout:
    """The one of `layouts` whose cells `record` has; the first, where it has those of none.

    Raises:
        BadRowError: if it has those of several.
    """
    fitting = [layout for layout in layouts if all(record.get(name) is not None for name in layout.needed.values())]
    if len(fitting) > 1:
        raise BadRowError("several_layouts", f"the columns {_named(fitting)} would both do; choose (data.format)")
    return (fitting or layouts)[0]


def cell_text(cells: dict[str, Any], key: str, name: str) -> str:
    """The text in the cell `key`; of a missing one the empty text.

    Raises:
        BadRowError: if something else is in it.
    """
    value = _present(cells.get(key))
    if value is not None and not is_text(value):
        raise BadRowError("not_text", f"column {name!r} holds {shown(value)}, not text")
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


def _besides(columns: list[str], needed: dict[str, str], given: dict[str, str]) -> dict[str, tuple[str, ...]]:
    besides = {}
    for key, names in OPTIONAL.items():
        if "messages" in needed and key not in BESIDE_MESSAGES:
            continue
        free = [name for name in names if name in columns and name not in (*needed.values(), *given.values())]
        if known := ([given[key]] if key in given else free):
            besides[key] = tuple(known)
    return besides


def _refuse_several(place: str, layouts: list[Layout]) -> None:
    if len(layouts) > 1:
        raise InputError(
            f"{place}: the columns {_named(layouts)} would both do; choose with data.format or data.columns"
        )
    for key, names in layouts[0].besides.items():
        if len(names) > 1:
            raise InputError(
                f"{place}: the columns {' and '.join(names)} could both be the {key}; name one in data.columns.{key}, "
                "or the other in data.columns.ignore"
            )


def _named(layouts: list[Layout]) -> str:
    return " and ".join(" + ".join(layout.needed.values()) for layout in layouts)


def _history(value: Any, unused: set[str]) -> list[Message]:
    """Earlier turns: pairs of question and answer, as lists, or turns of a conversation; or either as JSON text."""
    value = from_json(value)
    if not value or (isinstance(value, str) and not value.strip()):
        return []
    if isinstance(value, list) and value and all(isinstance(pair, list) for pair in value):
        if not all(len(pair) == 2 for pair in value):
            raise BadRowError("history", "the history has an entry that is no pair of question and answer")
        return [
            {"role": role, "content": text_of(said, "the history")}
            for pair in value
            for role, said in zip(("user", "assistant"), pair, strict=True)
        ]
    return conversation(value, unused)


def _present(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
