"""JSON and JSON lines. Each record may have keys of its own."""

import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from softprompt.data.readers.faults import BadRowError
from softprompt.data.readers.opening import open_text
from softprompt.data.readers.records import Options, Record, Table
from softprompt.runtime.errors import InputError


def read(path: Path, options: Options) -> Table:
    """A JSON list of objects, one object a line, or a single object, whatever the extension says.

    Empty lines are passed over; a line that is no JSON is a bad row.

    Raises:
        InputError: if it is not text, is a list that is no JSON, or breaks off.
    """
    with open_text(path, options.encoding) as file:
        first, second = islice(chain((line for line in _lines(file) if line.strip()), ["", ""]), 2)
    if first.lstrip().startswith("[") and not (second and _is_json(first)):
        read_records = _list
    elif first and not _is_json(first) and _is_json(_whole(path, options)):
        read_records = _one
    else:
        read_records = _each_line
    keys, count = dict[str, None](), 0
    for record in read_records(path, options):
        count += 1
        if isinstance(record, dict):
            keys.update(dict.fromkeys(record))
    return Table(list(keys), count, lambda _: read_records(path, options), varies=True)


def _list(path: Path, options: Options) -> Iterator[Record]:
    text = _whole(path, options)
    try:
        records = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{path.name}, line {error.lineno}, column {error.colno}"
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
            raise InputError(f"{place}: truncated: the JSON list breaks off") from None
        raise InputError(f"{place}: not valid JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond Python's limits
        raise InputError(f"{path.name}: not valid JSON: {error}") from None
    yield from map(_checked, records)


def _one(path: Path, options: Options) -> Iterator[Record]:
    yield _checked(json.loads(_whole(path, options)))


def _each_line(path: Path, options: Options) -> Iterator[Record]:
    with open_text(path, options.encoding) as file:
        for number, line in enumerate(_lines(file), start=1):
            if line.strip():
                yield _parsed(path, number, line)


def _whole(path: Path, options: Options) -> str:
    with open_text(path, options.encoding) as file:
        return file.read()


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


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
