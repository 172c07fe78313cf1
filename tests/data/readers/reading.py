"""Rows of a path, read as fetch_data does."""

from pathlib import Path
from typing import Any

from softprompt.data.readers import Rows, Wanted, select_data_files
from softprompt.sources import local
from tests.toy import data_params


def fetch(path: Path, slice: str | None = "train", **settings: Any) -> list[dict]:
    """All rows of a file, a folder or a glob, bad ones too; `settings` are keys of `data` and of its columns."""
    wanted = Wanted("train", slice, "data.split")
    found = local.find(str(path), select_data_files, nested=True)
    return list(Rows(found, data_params(str(path), **settings), [wanted]).rows(wanted))


def said(row: dict) -> list[tuple[str, str]]:
    """(role, content) of each turn."""
    assert row["fault"] == "", row["detail"]
    return [(turn["role"], turn["content"]) for turn in row["messages"]]
