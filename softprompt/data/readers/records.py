"""A table in a file: which columns it has, and its records, one at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from softprompt.data.readers.faults import BadRowError


@dataclass(frozen=True)
class Options:
    """What a reader can be told of a text file; None: to be found out.

    Attributes:
        encoding: such as utf-8.
        delimiter: what stands between the cells of CSV.
    """

    encoding: str | None = None
    delimiter: str | None = None


Record = dict[str, Any] | BadRowError  # cells by column, or why there are none


@dataclass(frozen=True)
class Table:
    """What a reader makes of a file.

    Attributes:
        columns: names of the columns, in order; of JSON, all keys that some record has.
        rows: how many records there are, bad ones too.
        records: from the columns that are wanted to an iterator of the records, all of them, in order.
        varies: whether a record may lack columns that others have.
    """

    columns: list[str]
    rows: int
    records: Callable[[list[str]], Iterator[Record]]
    varies: bool = False
