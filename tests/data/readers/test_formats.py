"""Every format, read rightly and refused clearly."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from softprompt.config.data import Data
from softprompt.data.readers import Rows, Wanted, select_data_files
from softprompt.runtime.errors import InputError
from softprompt.sources.request import Files
from tests.toy import data_params


def data(format: str = "auto", **columns: str) -> Data:
    return data_params(format=format, **columns)


ALPACA = data("alpaca")
ROWS = [("Add.", "1, 2", "3"), ("Größe?", "", "Zwei\u2028Meter"), ("Null?", "", "NA")]


TRAIN = Wanted("train", "train", "data.split")


def rows_of(path: Path, params: Data = ALPACA) -> list[dict]:
    """All rows, bad ones too."""
    return list(Rows(Files([path], path.parent), params, [TRAIN]).rows(TRAIN))


def read(path: Path, params: Data = ALPACA) -> list[tuple[str, str, str]]:
    """(question, input, answer) of each row; checks roles and source on the way."""
    rows = rows_of(path, params)
    for row in rows:
        assert row["fault"] == "", row["detail"]
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
        assert row["source"] == path.name.partition(".")[0]
    return [(row["messages"][0]["content"], row["input"], row["messages"][1]["content"]) for row in rows]


def refused(path: Path, params: Data = ALPACA) -> str:
    with pytest.raises(InputError) as error:
        rows_of(path, params)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


def faults(path: Path, params: Data = ALPACA) -> list[tuple[str, str, str]]:
    """(place, reason, detail) of each bad row."""
    return [(row["place"], row["fault"], row["detail"]) for row in rows_of(path, params) if row["fault"]]


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


def test_other_column_names_and_what_is_not_used_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"q": "Why?", "a": "Because.", "topic": "x"}\n\n', encoding="utf-8")
    assert read(path, data(instruction="q", output="a")) == [("Why?", "", "Because.")]
    assert "rows.jsonl: columns that are not used: topic\n" in capsys.readouterr().out
    assert read(path, data(instruction="q", output="a", ignore=["topic"])) == [("Why?", "", "Because.")]
    assert capsys.readouterr().out == ""


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
        ("r.json", '[{"instruction": "a", "output": "b"}, {"instr', "truncated: the JSON list breaks off"),
        (
            "r.jsonl",
            '{"instruction": "a", "output": "b"}\n{"instr',
            "r.jsonl, line 2: truncated: the last line breaks off",
        ),
        ("r.json", '[{"instruction": "a", "text": "b"}]', "r.json: the columns are instruction, text; known are"),
        ("r.csv", 'instruction,output\na,"b\n', "not valid CSV, or truncated: unexpected end of data"),
        ("r.csv", "instruction,output,output\na,b,c\n", "2 columns have the name 'output'"),
        ("r.json", '{"data": [\n]}', "if one of them holds the rows, give that list itself"),
        ("r.json", "[" * 100_000, "r.json: not valid JSON"),
        ("r.json", f"[{'9' * 5000}]", "r.json: not valid JSON"),
        ("r.yml", "conversations: " + "[" * 100_000, "r.yml: nested more than 20 deep"),
        ("r.yml", "conversations:\n- - a\n  - b\x07\n", "control characters are not allowed"),
        ("r.csv", "", "r.csv is empty"),
        (
            "r.csv",
            "question,answer\na,b\n",
            "r.csv: the columns are question, answer; known are instruction with output",
        ),
        ("r.parquet", b"PAR1 no", "r.parquet: not a valid parquet file"),
        ("r.arrow", b"PAR1 no", "r.arrow: not a valid Arrow file"),
        ("r.yml", "conversations:\n- - a\n  - 'b\n", "r.yml, line"),
        ("r.yml", "conversations: text\n", "r.yml: no list `conversations`"),
        ("r.yml", "conversations:\n- - a\n  - {b: c}\n", "r.yml: conversation 1 is not a list of texts"),
        (
            "r.jsonl.gz",
            gzip.compress(b'{"instruction": "a", "output": "b"}\n' * 99, mtime=0)[:-9],
            "r.jsonl.gz is truncated",
        ),
        ("r.json.xz", b"[]", "r.json.xz is truncated"),
        ("r.json.zst", b"[]", "r.json.zst is truncated or not what .zst says"),
        ("r.json.bz2", b"[]", "r.json.bz2 is truncated or not what .bz2 says"),
        ("r.csv", b"\xff\xfe\x00", "r.csv is not utf-16 text; convert it to UTF-8"),
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


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("r.json", '["text", {"instruction": "a", "output": "b"}]', ("row 1", "not_an_object", "not an object with")),
        ("r.json", '[{"instruction": "a", "output": 3}]', ("row 1", "not_text", "column 'output' holds 3, not text")),
        ("r.json", '[{"instruction": "a", "output": ["b"]}]', ("row 1", "not_text", 'holds ["b"], not text')),
        ("r.json", '[{"instruction": "a\\ud800", "output": "b"}]', ("row 1", "not_text", "column 'instruction' holds")),
        ("r.jsonl", '{"instruction": "a", "output": "b"}\n{\n', ("row 2", "invalid_json", "line 2 is not valid JSON")),
        ("r.csv", "instruction,output\na,b\nc,d,e\n", ("row 2", "ragged", "line 3 has 3 cells, but the header has 2")),
        ("r.csv", "instruction,output\na,Yes, sure\nb,No\n", ("row 1", "ragged", "quote cells with ',' in them")),
        ("r.csv", "instruction,output\na\n", ("row 1", "ragged", "line 2 has 1 cells")),
    ],
)
def test_a_bad_row_is_told_with_its_place_and_the_others_are_read(tmp_path: Path, name, content, expected) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    ((place, reason, detail),) = faults(path, data("auto"))
    assert (place, reason) == (f"{name}, {expected[0]}", expected[1])
    assert expected[2] in detail


def test_a_first_line_that_is_a_list_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('["a", "b"]\n{"instruction": "a", "output": "b"}\n', encoding="utf-8")
    assert [fault[1] for fault in faults(path)] == ["not_an_object"]


def test_a_line_that_is_nested_beyond_measure_is_one_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"instruction": "a", "output": "b"}\n' + '{"a":' * 100_000 + "\n", encoding="utf-8")
    assert [fault[1] for fault in faults(path)] == ["invalid_json"]


def test_a_parquet_cell_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    pq.write_table(pa.table({"instruction": ["a", "b"], "output": [1, 2]}), path)
    assert faults(path)[1] == ("r.parquet, row 2", "not_text", "column 'output' holds 2, not text")


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
    (row,) = rows_of(path, data(messages="talk"))
    assert row["note"] == "unanswered_end"
    assert [(turn["role"], turn["content"]) for turn in row["messages"]] == [
        ("system", "Be brief."),
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
        ("assistant", "d"),
    ], "what follows the last answer has no label"


@pytest.mark.parametrize(
    ("record", "params", "expected"),
    [
        (
            {"a": "x", "b": "y"},
            data(),
            "r.json: the columns are a, b; known are instruction or prompt or question or query with output or ",
        ),
        (
            {"a": "x"},
            data("chat"),
            "r.json: the columns are a; known are messages or conversations or conversation with ",
        ),
        ({"a": "x", "b": "y"}, data(messages="c"), "no column 'c' (data.columns.messages); the columns are a, b"),
    ],
)
def test_columns_that_fit_no_format_or_two(tmp_path: Path, record: dict, params: Data, expected: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps([record]), encoding="utf-8")
    assert expected in refused(path, params)
