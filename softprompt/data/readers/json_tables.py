"""JSON and JSON lines. Each record may have keys of its own."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from softprompt.data.readers.faults import BadRowError
from softprompt.data.readers.opening import open_text
from softprompt.data.readers.records import Options, Record, Table
from softprompt.runtime.errors import InputError


def read_json(path: Path, options: Options) -> Table:
    """A JSON list of objects. Many data sets on hubs are JSON lines in a .json file: those are read as such.

    Raises:
        InputError: if it is no JSON, or not a list.
    """
    with open_text(path, options.encoding) as file:
        text = file.read()
    if not text.lstrip().startswith("["):
        one = _one_object(text)
        if one is None:
            return read_json_lines(path, options)
        return Table(list(one), 1, lambda _: iter([one]), varies=True)
    try:
        records = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{path.name}, line {error.lineno}, column {error.colno}"
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
            raise InputError(f"{place}: truncated: the JSON list breaks off") from None
        raise InputError(f"{place}: not valid JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond Python's limits
        raise InputError(f"{path.name}: not valid JSON: {error}") from None
    checked = [_checked(record) for record in records]
    return Table(_keys(checked), len(checked), lambda _: iter(checked), varies=True)


def read_json_lines(path: Path, options: Options) -> Table:
    """One JSON object a line; empty lines are passed over. A line that is no JSON is a bad row.

    Raises:
        InputError: if it is not text, or breaks off within its last line.
    """

    def records(_: list[str]) -> Iterator[Record]:
        with open_text(path, options.encoding) as file:
            for number, line in enumerate(_lines(file), start=1):
                if line.strip():
                    yield _parsed(path, number, line)

    count = 0

    def counted() -> Iterator[Record]:
        nonlocal count
        for record in records([]):
            count += 1
            yield record

    columns = _keys(counted())
    return Table(columns, count, records, varies=True)


def _lines(file: Iterable[str]) -> Iterator[str]:
    """Lines by "\\n" alone: with newline="" Python ends one at a lone "\\r" too, which JSON allows between values."""
    held = ""
    for part in file:
        held += part
        if part.endswith("\n"):
            yield held
            held = ""
    if held:
        yield held


def _parsed(path: Path, number: int, line: str) -> Record:
    try:
        return _checked(json.loads(line))
    except (ValueError, RecursionError) as error:
        why = error.msg if isinstance(error, json.JSONDecodeError) else error
        if not line.endswith("\n") and number > 1:
            raise InputError(f"{path.name}, line {number}: truncated: the last line breaks off ({why})") from None
        return BadRowError("invalid_json", f"line {number} is not valid JSON: {why}")


def _checked(value: Any) -> Record:
    named = isinstance(value, dict) and value
    return value if named else BadRowError("not_an_object", "not an object with named columns")


def _keys(records: Iterable[Record]) -> list[str]:
    keys: dict[str, None] = {}
    for record in records:
        if isinstance(record, dict):
            keys.update(dict.fromkeys(record))
    return list(keys)


def _one_object(text: str) -> dict[str, Any] | None:
    """The object that all of `text` is, over one line or several; None if it is something else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None  # several lines, whose faults are counted one by one
    return value if isinstance(value, dict) else None
