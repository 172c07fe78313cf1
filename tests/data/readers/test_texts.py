"""Plain text out of files."""

from pathlib import Path

import pandas as pd
import pytest

from softprompt.data.readers.texts import read_texts, select_text_files
from softprompt.runtime.errors import InputError


def test_paragraphs_of_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\ntwo\r\n\r\n  \r\n三 \r\n\r\n".encode())
    assert list(read_texts(path, "text")) == ["one\ntwo", "三"]


@pytest.mark.parametrize("extension", ["csv", "json", "jsonl", "parquet"])
def test_a_column_of_a_table(tmp_path: Path, extension: str) -> None:
    table, path = pd.DataFrame({"id": [1, 2, 3], "body": ["one", " two ", None]}), tmp_path / f"a.{extension}"
    write = {"csv": table.to_csv, "json": table.to_json, "jsonl": table.to_json, "parquet": table.to_parquet}[extension]
    options = {"csv": {"index": False}, "json": {"orient": "records"}, "jsonl": {"orient": "records", "lines": True}}
    write(path, **options.get(extension, {}))
    assert list(read_texts(path, "body")) == ["one", "two"]
    with pytest.raises(InputError, match=r"no column 'text' \(general.column\); the columns are id, body"):
        list(read_texts(path, "text"))


def test_a_cell_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"text": "a"}, {"text": 5}]', encoding="utf-8")
    with pytest.raises(InputError, match=r"a.json, row 2: column 'text' holds 5, not text"):
        list(read_texts(path, "text"))


def test_only_files_that_hold_text_are_taken() -> None:
    assert select_text_files([Path("a.txt"), Path("b.png")]) == [Path("a.txt")]
    with pytest.raises(InputError, match=r"found .png; allowed extensions: .txt, .csv"):
        select_text_files([Path("b.png")])
