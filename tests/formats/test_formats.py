"""Every format, read rightly and refused clearly."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.formats import read_rows, select_data_files
from stages.formats.slices import take_split
from stages.params.data import Columns
from stages.workspace.errors import InputError

ALPACA = Columns(instruction="instruction", input="input", output="output")
ROWS = [("Add.", "1, 2", "3"), ("Größe?", "", "Zwei\u2028Meter"), ("Null?", "", "NA")]


def read(path: Path, columns: Columns = ALPACA) -> list[tuple[str, str, str]]:
    """(question, input, answer) of each row; checks roles and source on the way."""
    rows = list(read_rows(path, columns))
    for row in rows:
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
        assert row["source"] == path.stem
    return [(row["messages"][0]["content"], row["input"], row["messages"][1]["content"]) for row in rows]


def refused(path: Path, columns: Columns = ALPACA) -> str:
    with pytest.raises(InputError) as error:
        list(read_rows(path, columns))
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


EXPECTED = [("Add.\n1, 2", "1, 2", "3"), ("Größe?", "", "Zwei\u2028Meter"), ("Null?", "", "NA")]


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "lines.json", "rows.csv", "rows.parquet"])
def test_the_same_rows_from_every_table(tmp_path: Path, name: str) -> None:
    table, path = pd.DataFrame(ROWS, columns=["instruction", "input", "output"]), tmp_path / name
    if name == "rows.json":
        table.to_json(path, orient="records", force_ascii=False)
    elif path.suffix in (".json", ".jsonl"):
        table.to_json(path, orient="records", lines=True, force_ascii=False)
    elif name == "rows.csv":
        table.to_csv(path, index=False, encoding="utf-8-sig")
    else:
        table.to_parquet(path)
    assert read(path) == EXPECTED


def test_other_column_names_and_no_input(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"q": "Why?", "a": "Because.", "input": "not ours"}\n\n', encoding="utf-8")
    assert read(path, Columns(instruction="q", input=None, output="a")) == [("Why?", "", "Because.")]


def test_a_missing_cell_is_empty_and_left_to_prepare(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "Why?", "output": null}\n', encoding="utf-8")
    assert read(path) == [("Why?", "", "")]


def test_chatterbot_pairs_each_utterance_with_the_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "talk.yml"
    text = "categories: [talk]\nconversations:\n- - Hi\n  - Hello\n  - Yes\n- - Sum?\n  - 42\n- lone - '22'\n"
    path.write_text(text, encoding="utf-8")
    assert read(path) == [("Hi", "", "Hello"), ("Hello", "", "Yes"), ("Sum?", "", "42")]
    assert "talk.yml: conversation 3 is a single text" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("r.json", '[{"instruction": "a"},\n oops]', "r.json, line 2, column 2: not valid JSON"),
        ("r.jsonl", '{"instruction": "a", "output": "b"}\n{', "r.jsonl, line 2: not valid JSON"),
        ("r.json", '["text"]', "r.json, row 1: not an object with the columns instruction and output"),
        ("r.json", '[{"instruction": "a", "text": "b"}]', "no column 'output' (data.columns.output); the columns are"),
        ("r.json", '[{"instruction": "a", "output": 3}]', "r.json, row 1: column 'output' holds 3, not text"),
        ("r.json", '[{"instruction": "a", "output": ["b"]}]', "column 'output' holds [\"b\"], not text"),
        ("r.json", b"\xff\xfe", "r.json is not UTF-8 text"),
        ("r.csv", "instruction,output\na,b\nc,d,e\n", "r.csv, line 3: 3 cells, but the header has 2"),
        ("r.csv", "instruction,output\na,Yes, sure\nb,No\n", "r.csv, line 2: 3 cells, but the header has 2"),
        ("r.csv", "instruction,output\na\n", "r.csv, line 2: 1 cells, but the header has 2"),
        ("r.csv", 'instruction,output\na,"b\n', "not valid CSV: unexpected end of data"),
        ("r.csv", "instruction,output,output\na,b,c\n", "2 columns have the name 'output'"),
        ("r.json", '{"data": [\n]}', "r.json: an object with the keys data, not a list of rows"),
        ("r.json", "[" * 100_000, "r.json: not valid JSON"),
        ("r.json", f"[{'9' * 5000}]", "r.json: not valid JSON"),
        ("r.jsonl", '{"a":' * 100_000, "r.jsonl, line 1: not valid JSON"),
        ("r.json", '[{"instruction": "a\\ud800", "output": "b"}]', "r.json, row 1: column 'instruction' holds"),
        ("r.yml", "conversations: " + "[" * 100_000, "r.yml: nested more than 20 deep"),
        ("r.yml", "conversations:\n- - a\n  - b\x07\n", "control characters are not allowed"),
        ("r.csv", "", "r.csv is empty"),
        ("r.csv", "question,answer\na,b\n", "no column 'instruction'"),
        ("r.csv", b"instruction,output\n\xff,b\n", "r.csv is not UTF-8 text"),
        ("r.parquet", b"PAR1 no", "r.parquet: not a valid parquet file"),
        ("r.yml", "conversations:\n- - a\n  - 'b\n", "r.yml, line"),
        ("r.yml", "conversations: text\n", "r.yml: no list `conversations`"),
        ("r.yml", "conversations:\n- - a\n  - {b: c}\n", "r.yml: conversation 1 is not a list of texts"),
    ],
)
def test_a_bad_file_is_named_with_the_place(tmp_path: Path, name: str, content: str | bytes, expected: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert expected in refused(path)


def test_a_parquet_file_with_bytes_that_are_no_text(tmp_path: Path) -> None:
    bad = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())
    pq.write_table(pa.table({"instruction": bad, "output": ["b"]}), tmp_path / "r.parquet")
    assert "r.parquet: not a valid parquet file" in refused(tmp_path / "r.parquet")


def test_columns_that_are_not_asked_for_are_not_read(tmp_path: Path) -> None:
    far = pa.array([2**31 - 1], pa.int32()).cast(pa.date32())  # no date of Python's
    pq.write_table(pa.table({"instruction": ["a"], "output": ["b"], "when": far}), tmp_path / "r.parquet")
    assert read(tmp_path / "r.parquet") == [("a", "", "b")]


def test_a_parquet_cell_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    pq.write_table(pa.table({"instruction": ["a", "b"], "output": [1, 2]}), path)
    assert "r.parquet, row 1: column 'output' holds 1, not text" in refused(path)


def test_a_named_column_has_to_be_there(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"instruction": "a", "output": "b"}\n', encoding="utf-8")
    message = refused(path, Columns(instruction="instruction", input="context", output="output"))
    assert "no column 'context' (data.columns.input); the columns are instruction, output" in message


def test_files_without_a_reader_are_refused() -> None:
    assert select_data_files([Path("a.csv"), Path("LICENSE")]) == [Path("a.csv")]
    with pytest.raises(InputError, match=r"found \.txt; allowed extensions: \.json, "):
        select_data_files([Path("a.txt")])


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", list(range(25))),
        ("train[:10%]", [0, 1]),
        ("train[5:8]", [5, 6, 7]),
        ("train[-2:]", [23, 24]),
        ("train[:1]+train[-1:]", [0, 24]),
    ],
)
def test_slices_are_those_of_datasets(split: str, expected: list[int]) -> None:
    assert take_split(pa.table({"n": range(25)}), split)["n"].to_pylist() == expected


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("test", "no split test; the data set has: train"),
        ("train[", "slice syntax"),
        ("train[:1.5%]", "slice syntax"),
        ("train[:150%]", "slice syntax"),
        ("train[:0]", "selects none of the 25 rows"),
    ],
)
def test_a_bad_slice_is_refused(split: str, expected: str) -> None:
    with pytest.raises(InputError) as error:
        take_split(pa.table({"n": range(25)}), split)
    assert expected in str(error.value)
