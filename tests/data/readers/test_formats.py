"""Every format, read rightly and refused clearly."""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from softprompt.config.data import Data
from softprompt.data.readers import read_rows, select_data_files
from softprompt.data.readers.split_syntax import slices
from softprompt.runtime.errors import InputError
from tests.toy import data_params


def data(format: str = "auto", **columns: str) -> Data:
    return data_params(format=format, **columns)


ALPACA = data("alpaca")
ROWS = [("Add.", "1, 2", "3"), ("Größe?", "", "Zwei\u2028Meter"), ("Null?", "", "NA")]


def read(path: Path, params: Data = ALPACA) -> list[tuple[str, str, str]]:
    """(question, input, answer) of each row; checks roles and source on the way."""
    rows = list(read_rows(path, path.parent, params))
    for row in rows:
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
        assert row["source"] == path.stem
    return [(row["messages"][0]["content"], row["input"], row["messages"][1]["content"]) for row in rows]


def refused(path: Path, params: Data = ALPACA) -> str:
    with pytest.raises(InputError) as error:
        list(read_rows(path, path.parent, params))
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
    assert read(path, data(instruction="q", output="a")) == [("Why?", "", "Because.")]


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
        ("r.json", '["text"]', "r.json, row 1: not an object with named columns"),
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
    message = refused(path, data(input="context"))
    assert "no column 'context' (data.columns.input); the columns are instruction, output" in message


def test_files_without_a_reader_are_refused() -> None:
    assert select_data_files([Path("a.csv"), Path("LICENSE")]) == [Path("a.csv")]
    with pytest.raises(InputError, match=r"found \.txt; allowed extensions: \.json, "):
        select_data_files([Path("a.txt")])


@pytest.mark.parametrize(
    ("record", "layout"),
    [
        ({"prompt": "a", "completion": "b"}, "prompt_completion"),
        ({"question": "a", "answer": "b"}, "prompt_completion"),
        ({"query": "a", "response": "b"}, "prompt_completion"),
        ({"instruction": "a", "context": "", "response": "b", "category": "c"}, "prompt_completion"),
        ({"instruction": "a", "output": "b"}, "alpaca"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "chat"),
        ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}, "chat"),
        ({"id": 3, "conversation": [{"from": "user", "value": "a"}, {"from": "assistant", "value": "b"}]}, "chat"),
        (
            {
                "prompt": [{"role": "user", "content": "a"}],
                "completion": [{"role": "assistant", "content": "b"}],
            },
            "prompt_completion",
        ),
    ],
)
def test_known_formats_are_told_by_their_columns(tmp_path: Path, record: dict, layout: str) -> None:
    for name in ("r.json", "r.jsonl", "r.parquet"):
        path = tmp_path / name
        if name == "r.parquet":
            pq.write_table(pa.Table.from_pylist([record]), path)
        else:
            path.write_text(json.dumps([record] if name == "r.json" else record), encoding="utf-8")
        assert read(path, data("auto")) == read(path, data(layout)) == [("a", "", "b")]


def test_a_conversation_of_several_turns(tmp_path: Path) -> None:
    turns = [("system", "Be brief."), ("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d"), ("human", "bye")]
    path = tmp_path / "talk.jsonl"
    path.write_text(json.dumps({"talk": [{"from": role, "value": text} for role, text in turns]}), encoding="utf-8")
    (row,) = read_rows(path, path.parent, data(messages="talk"))
    assert [(turn["role"], turn["content"]) for turn in row["messages"]] == [
        ("system", "Be brief."),
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
        ("assistant", "d"),
    ], "what follows the last answer has no label"


def turn(role: object, content: object) -> dict:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([], "row 2: not a list of turns"),
        ("text", "row 2: not a list of turns"),
        (["text"], "row 2, turn 1: not an object with role and content"),
        ([turn("user", "a"), turn("tool", "b")], "row 2, turn 2: the role is 'tool'; allowed: system, user, human,"),
        ([turn("user", "a"), turn(None, "b")], "row 2, turn 2: the role is None"),
        ([turn("user", "a"), turn("assistant", None)], "row 2, turn 2: its content is not text"),
        ([turn("user", "a"), turn("assistant", ["b"])], "row 2, turn 2: its content is not text"),
        ([turn("user", "a")], "row 2: no turn of the assistant"),
        ([turn("assistant", "a"), turn("user", "b")], "row 2: the assistant speaks before any user"),
        ([turn("user", "a"), turn("system", "b"), turn("assistant", "c")], "row 2, turn 2: a system turn can only be"),
    ],
)
def test_what_is_no_conversation_is_named_with_row_and_turn(tmp_path: Path, turns: object, expected: str) -> None:
    path, good = tmp_path / "r.json", [turn("user", "a"), turn("assistant", "b")]
    path.write_text(json.dumps([{"messages": good}, {"messages": turns}]), encoding="utf-8")
    assert f"r.json, {expected}" in refused(path, data("chat"))


@pytest.mark.parametrize(
    ("record", "params", "expected"),
    [
        (
            {"a": "x", "b": "y"},
            data(),
            "row 1: the columns are a, b; known are instruction + input + output; prompt + ",
        ),
        ({"a": "x"}, data("chat"), "row 1: the columns are a; known are messages; conversations; conversation; name"),
        ({"a": "x", "b": "y"}, data(messages="c"), "no column 'c' (data.columns.messages); the columns are a, b"),
        (
            {"instruction": "a", "output": "b", "prompt": "c", "completion": "d"},
            data(),
            "the columns instruction + output and prompt + completion would both do; choose with data.format",
        ),
    ],
)
def test_columns_that_fit_no_format_or_two(tmp_path: Path, record: dict, params: Data, expected: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps([record]), encoding="utf-8")
    assert expected in refused(path, params)


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", [("train", range(25))]),
        ("train[:10%]", [("train", range(2))]),
        ("train[5:8]", [("train", range(5, 8))]),
        ("train[-2:]", [("train", range(23, 25))]),
        ("train[:1]+test", [("train", range(1)), ("test", range(4))]),
    ],
)
def test_slices_are_those_of_datasets(split: str, expected: list[tuple[str, range]]) -> None:
    assert slices({"train": 25, "test": 4}, split) == expected


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("dev", "no split dev; the data set has: train, test"),
        ("train[", "slice syntax"),
        ("train[:1.5%]", "slice syntax"),
        ("train[:150%]", "slice syntax"),
        ("train[:0]", "selects none of the 25 rows"),
    ],
)
def test_a_bad_slice_is_refused(split: str, expected: str) -> None:
    with pytest.raises(InputError) as error:
        slices({"train": 25, "test": 4}, split)
    assert expected in str(error.value)
