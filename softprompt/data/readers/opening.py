"""Files as text, whatever compresses and encodes them."""

import codecs
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from softprompt.runtime.errors import InputError

BEGINNINGS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}  # byte order marks
REMEDY = "convert it to UTF-8 (of data, data.encoding can name another encoding)"
SAMPLE = 1 << 20  # bytes that an encoding is guessed from


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """The decompressed bytes of `path`.

    Raises:
        InputError: if what compresses it is broken off, or not what the extension says.
    """
    import fsspec
    import zstandard

    try:
        # mypy: fsspec's own type is of any mode.
        with fsspec.open(str(path.absolute()), "rb", compression="infer") as file:
            yield cast(BinaryIO, file)
    except EOFError:
        raise InputError(f"{path.name} is truncated: the compressed data breaks off") from None
    except (zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        raise InputError(f"{path.name} is truncated or not what {path.suffix} says: {error}") from None
    except OSError as error:
        if error.errno is not None:  # of the disk; gzip and bz2 raise theirs without a number
            raise
        raise InputError(f"{path.name} is truncated or not what {path.suffix} says: {error}") from None


@contextmanager
def open_text(path: Path, encoding: str | None) -> Iterator[TextIO]:
    """`path` as text, with its line ends as they are.

    Args:
        path: the file, perhaps compressed.
        encoding: the encoding; None: by its byte order mark, else UTF-8, else a guess, which is told.

    Raises:
        InputError: if it is not text of that encoding.
    """
    encoding = encoding or _encoding_of(path, path.stat().st_mtime_ns)
    try:
        with open_bytes(path) as file, io.TextIOWrapper(file, encoding=encoding, newline="") as text:
            yield text
    except UnicodeError:
        raise InputError(f"{path.name} is not {encoding} text; {REMEDY}") from None
    except LookupError:
        raise InputError(f"data.encoding: there is no {encoding!r}; allowed: such as utf-8, gb18030, utf-16") from None


@cache
def _encoding_of(path: Path, changed: int) -> str:
    """The encoding of `path`, found and told once; `changed`: its time, since files are read again under one name."""
    with open_bytes(path) as file:
        sample = file.read(SAMPLE)
        for mark, encoding in BEGINNINGS.items():
            if sample.startswith(mark):
                return encoding
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while block := sample:
                decoder.decode(block)
                sample = file.read(SAMPLE)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return _guessed(path, block)
        return "utf-8"


def _guessed(path: Path, sample: bytes) -> str:
    from charset_normalizer import from_bytes

    best = from_bytes(sample).best()
    if best is None:
        raise InputError(f"{path.name} is not UTF-8 text; {REMEDY}")
    print(f"{path.name} is not UTF-8, and read as {best.encoding}; if that is wrong, set data.encoding", flush=True)
    return best.encoding
