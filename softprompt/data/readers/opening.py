"""Files as text, whatever compresses and encodes them."""

import bz2
import codecs
import gzip
import io
import lzma
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa

from softprompt.runtime.errors import InputError
from softprompt.sources.kinds import check_kind

# pyarrow's zstd, since others end without a word where a file breaks off.
COMPRESSIONS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": lambda path: pa.input_stream(str(path), compression="zstd"),
}
# Byte order marks; that of UTF-32 begins as that of UTF-16.
BEGINNINGS = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
REMEDY = "convert it to UTF-8 (of data, data.encoding can name another encoding)"
BLOCK = 1 << 20
SAMPLE = 1 << 18  # bytes of lines that are not ASCII, from which an encoding is guessed


def plain(path: Path) -> Path:
    """The file `path` itself, or what it is decompressed, in a folder that is gone when the process ends.

    Raises:
        InputError: if what compresses it is broken off, or not what the extension says, or something else is in it.
    """
    return _unpacked(path, path.stat().st_mtime_ns) if path.suffix.lower() in COMPRESSIONS else path


@cache
def _unpacked(path: Path, changed: int) -> Path:
    target = Path(tempfile.mkdtemp(dir=_place().name)) / path.stem
    try:
        with COMPRESSIONS[path.suffix.lower()](path) as packed, target.open("wb") as file:
            shutil.copyfileobj(packed, file, BLOCK)
    except EOFError:
        raise InputError(f"{path.name} is truncated: the compressed data breaks off") from None
    except (zlib.error, lzma.LZMAError, OSError) as error:
        if getattr(error, "errno", None) is not None:  # of the disk; the libraries raise theirs without a number
            raise
        raise InputError(f"{path.name} is truncated or not what {path.suffix} says: {error}") from None
    check_kind(target)
    return target


@cache
def _place() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="unpacked-")


@contextmanager
def open_text(path: Path, encoding: str | None) -> Iterator[TextIO]:
    """`path` as text, with its line ends as they are.

    Args:
        path: the file, perhaps compressed.
        encoding: the encoding; None: by its byte order mark, else UTF-8, else a guess, which is told.

    Raises:
        InputError: if it is not text of that encoding.
    """
    try:
        encoding = codecs.lookup(encoding).name if encoding else _encoding_of(path, path.stat().st_mtime_ns)
    except LookupError:
        raise InputError(f"data.encoding: there is no {encoding!r}; allowed: such as utf-8, gb18030, utf-16") from None
    try:
        # A byte order mark is no part of the text.
        with plain(path).open(encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="") as text:
            yield text
    except UnicodeError:
        raise InputError(f"{path.name} is not {encoding} text; {REMEDY}") from None


@cache
def _encoding_of(path: Path, changed: int) -> str:
    """The encoding of `path`, found and told once; `changed`: its time, since files are read again under one name."""
    with plain(path).open("rb") as file:
        beginning = file.read(4)
        for mark, encoding in BEGINNINGS.items():
            if beginning.startswith(mark):
                return encoding
        decoder = codecs.getincrementaldecoder("utf-8")()
        block = beginning
        try:
            while block:
                decoder.decode(block)
                block = file.read(BLOCK)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            file.seek(0)
            return _guessed(path, file)
        return "utf-8"


def _guessed(path: Path, file: io.BufferedReader) -> str:
    """The encoding of a file that is not UTF-8, by whole lines that are not ASCII."""
    from charset_normalizer import from_bytes

    sample, found, bad = b"", 0, list[int]()
    for number, line in enumerate(file, start=1):
        if line.isascii():
            continue
        found += 1
        try:
            line.decode()
        except UnicodeDecodeError:
            bad.append(number)
        sample += line
        if len(sample) > SAMPLE:
            break
    best = from_bytes(sample).best() if len(bad) > found / 2 else None
    if best is None:
        where = f", line {bad[0]}," if bad else ""
        raise InputError(f"{path.name}{where} is not UTF-8 text; {REMEDY}")
    print(f"{path.name} is not UTF-8, and read as {best.encoding}; if that is wrong, set data.encoding", flush=True)
    return best.encoding
