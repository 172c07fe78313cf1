"""What counts as text, in params and in data alike."""

from pathlib import Path
from typing import Any

from softprompt.runtime.errors import InputError


def is_text(value: Any) -> bool:
    """Whether `value` is text that can be stored: half a surrogate pair, which JSON and YAML can hold, can not."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_text(path: Path) -> str:
    """A UTF-8 file, with or without a byte order mark; line ends become "\\n".

    Raises:
        InputError: if it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not UTF-8 text (byte {error.start})") from None
