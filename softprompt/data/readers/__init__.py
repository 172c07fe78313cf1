"""Rows out of files, the same from every source: of a file a table, of its columns a layout, of a row messages."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from softprompt.config.data import Data
from softprompt.data.readers.faults import BadRowError, storable
from softprompt.data.readers.formats import is_beside_data, open_table, select_data_files, stem
from softprompt.data.readers.layouts import Layout, layout_of, layouts_of
from softprompt.data.readers.records import Options, Table
from softprompt.data.readers.saved import saved_splits
from softprompt.data.readers.splits import SPLIT, asked_splits, files_by_split, named_splits, slices
from softprompt.runtime.errors import InputError
from softprompt.runtime.progress import tqdm
from softprompt.sources.repository import HEADER
from softprompt.sources.request import Files

__all__ = ["Rows", "Wanted", "select_data_files"]


@dataclass(frozen=True)
class Wanted:
    """Rows that are wanted of a source.

    Attributes:
        split: what they are for: "train", "validation" or "test".
        slice: an expression in the slice syntax of `datasets`; None: all rows.
        key: the parameter that it is the value of.
    """

    split: str
    slice: str | None
    key: str


@dataclass(frozen=True)
class _Part:
    name: str  # the file's, below the source's folder
    table: Table
    layouts: list[Layout]


class Rows:
    """The rows of a source.

    Args:
        found: its files.
        data: the section of params.yaml.
        wanted: what will be asked for: other splits are not read.

    Raises:
        InputError: if a file is not what its extension says, or its columns fit no layout.
    """

    def __init__(self, found: Files, data: Data, wanted: list[Wanted]) -> None:
        rows = select_data_files(found.files)  # of a hub's repository there are descriptions beside them
        names = {file.relative_to(found.base).as_posix(): file for file in rows}
        if found.whole:
            header = found.base / HEADER
            known = sorted({*names, *found.elsewhere})
            splits = saved_splits(found.base, names) or files_by_split(
                known, header if header.is_file() else None, data.subset
            )
            if left := sorted(_all_names(found) - {name for files in splits.values() for name in files}):
                print(f"{data.source}: not read: {', '.join(left)}", flush=True)
        else:
            splits = {SPLIT: sorted(names)}
        self._options = Options(data.encoding, data.delimiter)
        self.data, self.repository = data, found.repository
        read = asked_splits(want.slice for want in wanted)
        self._parts = {
            split: [self._part(name, names.get(name), found) for name in files] if read is None or split in read else []
            for split, files in splits.items()
        }
        unread = [name for split, files in splits.items() if read is not None and split not in read for name in files]
        # Of a hub's repository they were not fetched.
        self._unread = sum(self._rows_in(names[name]) for name in unread if name in names)

    @property
    def count(self) -> int:
        """How many rows there are in all files that were fetched, and in those of the same splits that were not."""
        return self._wanted + self._unread

    @property
    def _wanted(self) -> int:
        return sum(part.table.rows for parts in self._parts.values() for part in parts)

    def rows(self, wanted: Wanted) -> Iterator[dict]:
        """Rows of `softprompt.data.rows.RAW_SCHEMA`, bad ones too, in the order of the source.

        Raises:
            InputError: if there is no such split, or nothing in it.
        """
        sizes = {split: sum(part.table.rows for part in parts) for split, parts in self._parts.items()}
        if not self._wanted and (wanted.slice is None or named_splits(wanted.slice) <= sizes.keys()):
            raise InputError("the data set has no rows")
        parts = (
            [(split, range(size)) for split, size in sizes.items()]
            if wanted.slice is None
            else slices(sizes, wanted.slice, wanted.key)
        )
        for split, chosen in tqdm(parts, desc=f"fetch_data: {wanted.split}", unit=" parts"):
            yield from self._slice(self._parts[split], chosen, wanted.split)

    def _slice(self, parts: list[_Part], chosen: range, split: str) -> Iterator[dict]:
        before = 0
        for part in parts:
            first = max(chosen.start - before, 0)
            last = min(chosen.stop - before, part.table.rows)
            before += part.table.rows
            if first < last:
                yield from self._rows(part, first, last, split)

    def _rows(self, part: _Part, first: int, last: int, split: str) -> Iterator[dict]:
        unused: set[str] = set()
        columns = list(dict.fromkeys(name for layout in part.layouts for name in layout.names()))
        source = self.repository or stem(part.name)  # a hub's data set is one source, whatever its shards are
        for number, record in enumerate(islice(part.table.records(columns), first, last), start=first + 1):
            place = f"{part.name}, row {number}"
            row = {"messages": [], "input": "", "source": source, "place": place, "split": split}
            try:
                if isinstance(record, BadRowError):
                    raise record
                yield {**row, "fault": "", "detail": "", **layout_of(part.layouts, record).row(record, unused)}
            except BadRowError as fault:
                yield {**row, "fault": fault.reason, "detail": fault.detail, "note": ""}
        if unused:
            print(f"{part.name}: keys of turns that are not used: {storable(', '.join(sorted(unused)))}", flush=True)

    def _rows_in(self, file: Path) -> int:
        with contextlib.suppress(InputError):  # which is nobody's trouble where no row of it is wanted
            return open_table(file, self._options).rows
        return 0

    def _part(self, name: str, file: Path | None, found: Files) -> _Part:
        if file is None:  # none of its rows is wanted
            return _Part(name, Table([], found.elsewhere[name], lambda _: iter([])), [])
        table = open_table(file, self._options)
        if not table.columns:  # no rows, or bad ones only
            return _Part(name, table, [])
        try:
            layouts = layouts_of(name, table.columns, self.data, varies=table.varies)
        except InputError as error:
            if table.varies and table.rows == 1:
                raise InputError(f"{error}; if one of them holds the rows, give that list itself") from None
            raise
        used = {column for layout in layouts for column in layout.names()} | set(self.data.columns.ignore)
        if unused := [str(column) or repr(column) for column in table.columns if column not in used]:
            print(f"{name}: columns that are not used: {storable(', '.join(unused))}", flush=True)
        return _Part(name, table, layouts)


def _all_names(found: Files) -> set[str]:
    """Files that a user may think are data: of a local folder all but those that go with any data set."""
    files = found.files if found.repository else [file for file in found.base.rglob("*") if file.is_file()]
    names = {file.relative_to(found.base) for file in files if not is_beside_data(file)}
    return {name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts)}
