"""Parquet and Arrow files, read a batch at a time; columns that are not wanted are not touched."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from softprompt.data.readers.opening import plain
from softprompt.data.readers.records import Options, Record, Table
from softprompt.runtime.errors import InputError

Batches = Iterable[pa.RecordBatch]
END = b"\xff\xff\xff\xff\x00\x00\x00\x00"  # of an Arrow stream


def read_parquet(path: Path, options: Options) -> Table:
    """A parquet file.

    Raises:
        InputError: if it is none.
    """

    @contextmanager
    def batches(columns: list[str] | None) -> Iterator[Batches]:
        with pq.ParquetFile(plain(path)) as table:
            yield table.iter_batches(columns=columns)

    with _naming(path, "parquet"), pq.ParquetFile(plain(path)) as table:
        names, rows = table.schema_arrow.names, table.metadata.num_rows
    return Table(names, rows, lambda columns: _records(path, "parquet", batches, columns))


def read_arrow(path: Path, options: Options) -> Table:
    """An Arrow file in the stream or the file format, such as `datasets` saves.

    Raises:
        InputError: if it is none.
    """

    @contextmanager
    def batches(columns: list[str] | None) -> Iterator[Batches]:
        with plain(path).open("rb") as file:
            try:
                reader: Any = pa.ipc.open_stream(file)
                _check_end(file)
                found: Iterator[pa.RecordBatch] = iter(reader)
            except pa.ArrowInvalid:
                file.seek(0)
                reader = pa.ipc.open_file(file)
                found = (reader.get_batch(number) for number in range(reader.num_record_batches))
            yield (batch if columns is None else batch.select(columns) for batch in found)

    with _naming(path, "Arrow"), batches(None) as found:
        first = next(iter(found), None)
        names = [] if first is None else list(first.schema.names)
        rows = 0 if first is None else len(first) + sum(map(len, found))
    return Table(names, rows, lambda columns: _records(path, "Arrow", batches, columns))


def _check_end(file: BinaryIO) -> None:
    """Refuse a stream without its end mark: cut between two of its messages it would only have fewer rows."""
    place = file.tell()
    file.seek(-len(END), os.SEEK_END)
    if file.read() != END:
        raise OSError("the stream breaks off")
    file.seek(place)


def _records(
    path: Path, kind: str, open_batches: Callable[[list[str]], AbstractContextManager[Batches]], columns: list[str]
) -> Iterator[Record]:
    with _naming(path, kind), open_batches(columns) as batches:
        for batch in batches:
            yield from batch.to_pylist()


@contextmanager
def _naming(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path.name}: not a valid {kind} file, or a truncated one: {first}") from None
