"""Why a row is of no use: it is counted by reason, and named by its place."""

import json
from typing import Any


class BadRowError(Exception):
    """One row that can't be read.

    Args:
        reason: a short name, under which such rows are counted.
        detail: what was found, and what is allowed.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, storable(detail)


def storable(text: str) -> str:
    """`text` with each half of a surrogate pair, which no file takes, written as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def shown(value: Any) -> str:
    """The beginning of `value` as JSON."""
    try:
        return json.dumps(value, default=str, ensure_ascii=False)[:60]
    except (ValueError, TypeError, RecursionError):  # nested too deep, or with keys that are no text
        return str(type(value).__name__)
