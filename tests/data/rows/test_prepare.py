"""The prepare stage: how it takes its rows apart changes none of them."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import Run
from tests.toy import toy_rows, write_rows


def test_the_parts_in_which_rows_are_prepared_change_none_of_them(
    finished: Path, run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Duplicates of other parts are found, and an order that is no other."""
    rows = toy_rows()
    write_rows(project, [*rows, *reversed(rows)])
    monkeypatch.setattr("softprompt.data.rows.parts.PART", 7)
    run("fetch_data", "prepare")
    for split in ("train", "validation", "test"):
        name = f"data/prepared/{split}.parquet"
        assert pq.read_table(project / name).equals(pq.read_table(finished / name))
    report = json.loads(Path("results/prepare.json").read_text(encoding="utf-8"))
    assert report["dropped"] == len(rows)
