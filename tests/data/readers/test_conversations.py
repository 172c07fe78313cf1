"""Conversations as they are found: other names, other shapes, and what is no conversation."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.readers.reading import fetch, said

GOOD = [{"role": "user", "content": "Rain?"}, {"role": "assistant", "content": "No."}]
EXPECTED = [("user", "Rain?"), ("assistant", "No.")]
SYSTEM = ("system", "Be dry.")


def turn(role: object, content: object, **more: object) -> dict:
    return {"role": role, "content": content, **more}


def parts(*texts: str) -> list[dict]:
    return [{"type": "text", "text": text} for text in texts]


def write(folder: Path, *records: Any) -> Path:
    path = folder / "talks.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"conversation": [{"input": "Rain?", "output": "No."}]}, EXPECTED),
        ({"conversation": [{"system": "Be dry.", "input": "Rain?", "output": "No."}]}, [SYSTEM, *EXPECTED]),
        ({"conversation": [{"human": "Rain?", "assistant": "No."}] * 2}, EXPECTED * 2),
        ({"messages": {"from": ["human", "gpt"], "value": ["Rain?", "No."]}}, EXPECTED),
        ({"messages": {"role": ["user", "assistant"], "content": ["Rain?", "No."]}}, EXPECTED),
        ({"messages": json.dumps(GOOD)}, EXPECTED),
        ({"messages": [turn("developer", "Be dry."), *GOOD]}, [SYSTEM, *EXPECTED]),
        ({"messages": [turn("prompter", "Rain?"), turn("model", "No.")]}, EXPECTED),
        ({"messages": GOOD, "system": "Be dry."}, [SYSTEM, *EXPECTED]),
        ({"messages": GOOD, "system": ""}, EXPECTED),
        ({"messages": [turn("user", parts("Ra", "in?")), turn("assistant", parts("No."))]}, EXPECTED),
        ({"question": "Rain?", "answer": "No.", "system_prompt": "Be dry."}, [SYSTEM, *EXPECTED]),
        ({"question": "Rain?", "article": "Dry.", "answer": "No."}, [("user", "Rain?\nDry."), EXPECTED[1]]),
        ({"query": "Rain?", "response": "No.", "history": [["Rain?", "No."]]}, EXPECTED * 2),
        ({"query": "Rain?", "response": "No.", "history": GOOD}, EXPECTED * 2),
        ({"query": "Rain?", "response": "No.", "history": []}, EXPECTED),
        ({"query": "Rain?", "response": "No.", "history": '[["Rain?", "No."]]'}, EXPECTED * 2),
        ({"conversation": [{"system": "Be dry.", "human": "Rain?", "assistant": "No."}] * 2}, [SYSTEM, *EXPECTED * 2]),
        ({"conversation": [{"instruction": "R", "input": "D", "output": "No."}]}, [("user", "R\nD"), EXPECTED[1]]),
    ],
)  # fmt: skip
def test_every_form_of_a_conversation(tmp_path: Path, record: dict, expected: list) -> None:
    path = write(tmp_path, record)
    assert said(fetch(path)[0]) == expected
    pq.write_table(pa.Table.from_pylist([record]), tmp_path / "talks.parquet")
    assert said(fetch(tmp_path / "talks.parquet")[0]) == expected


@pytest.mark.parametrize(
    ("record", "reason", "detail"),
    [
        ({"messages": []}, "no_turns", "not a list of turns"),
        ({"messages": "text"}, "no_turns", "not a list of turns"),
        ({"messages": ["text"]}, "no_turns", 'turn 1 is "text"'),
        ({"messages": {"from": ["human"], "value": ["a", "b"]}}, "no_turns", "different lengths"),
        ({"messages": [turn("user", "a"), turn("wizard", "b")]}, "unknown_role", "turn 2 has the role"),
        ({"messages": [{"who": "user", "text": "a"}]}, "unknown_role", "turn 1 has the keys who, text;"),
        ({"messages": [turn("user", "a"), turn("tool", "b"), turn("assistant", "c")]}, "tool_turn", "turn 2 is a"),
        ({"messages": [turn("user", "a"), turn("assistant", "", tool_calls=[{"id": 1}])]}, "tool_turn", "turn 2 calls"),
        ({"messages": [turn("user", "a"), turn("assistant", ["b"])]}, "not_text", "turn 2's content holds"),
        ({"messages": [turn("user", [{"type": "image"}]), GOOD[1]]}, "not_text", "turn 1's content holds"),
        ({"messages": [turn("user", "a")]}, "no_answer", "no turn of the assistant"),
        ({"messages": [turn("assistant", "a"), turn("user", "b")]}, "no_question", "before an answer"),
        ({"messages": [GOOD[0], turn("system", "b"), GOOD[1]]}, "late_system_turn", "a turn of the system"),
        ({"messages": [GOOD[0], {**GOOD[1], "weight": 0}]}, "nothing_to_learn", "weight 0"),
        ({"messages": [GOOD[0], {**GOOD[1], "weight": 0.5}]}, "weight", "a weight of 0.5; allowed: 0 and 1"),
        ({"messages": [{"role": "user", "text": "a"}, GOOD[1]]}, "no_content", "turn 1 has the keys role, text;"),
        ({"messages": [GOOD[0], {**GOOD[1], "weight": 1, "train": False}]}, "weight", "turn 2 says both"),
        ({"messages": GOOD, "tools": [{"name": "f"}]}, "tools", "data.columns.ignore"),
        ({"query": "a", "response": "b", "history": [["a"]]}, "history", "no pair"),
    ],
)  # fmt: skip
def test_what_can_not_be_used_is_told_and_costs_no_other_row(tmp_path: Path, record, reason, detail) -> None:
    bad, good = fetch(write(tmp_path, record, {**{key: [] for key in record if key == "tools"}, "messages": GOOD}
                            if "messages" in record else {"query": "Rain?", "response": "No."}))  # fmt: skip
    assert (bad["fault"], bad["place"]) == (reason, "talks.json, row 1")
    assert detail in bad["detail"]
    assert said(good) == EXPECTED


def test_leading_answers_and_questions_without_one_are_left_out_and_counted(tmp_path: Path) -> None:
    turns = [{"from": "gpt", "value": "Hello."}, *GOOD, turn("user", "Bye.")]
    (row,) = fetch(write(tmp_path, {"messages": turns}))
    assert said(row) == EXPECTED
    assert row["note"] == "leading_answer unanswered_end"


@pytest.mark.parametrize(("key", "no", "yes"), [("weight", 0, 1), ("weight", 0.0, None), ("train", False, True)])
def test_an_answer_that_must_not_be_learnt(tmp_path: Path, key: str, no: object, yes: object) -> None:
    turns = [GOOD[0], {**GOOD[1], key: no}, turn("user", "Sure?"), turn("assistant", "Yes.", **{key: yes})]
    (row,) = fetch(write(tmp_path, {"messages": turns}))
    assert row["messages"][1]["weight"] == 0
    assert row["messages"][-1].get("weight") in (1, None)


def test_thoughts_and_keys_that_are_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turns = [{**GOOD[0], "system": "Be wet."}, {**GOOD[1], "reasoning_content": "Dry sky.", "name": "Ada"}]
    (row,) = fetch(write(tmp_path, {"messages": turns}))
    assert row["messages"][1]["reasoning_content"] == "Dry sky."
    assert "talks.json: keys of turns that are not used: name, system\n" in capsys.readouterr().out
    (row,) = fetch(write(tmp_path, {"prompt": "a", "completion": "b", "reasoning_content": "c"}))
    assert row["messages"][1]["reasoning_content"] == "c"


def test_rows_of_one_file_may_have_other_columns(tmp_path: Path) -> None:
    both = {"instruction": "a", "output": "b", "response": "c"}
    inputs = {"instruction": "a", "output": "b", "input": "c", "context": "d"}
    rows = fetch(write(tmp_path, {"instruction": "a", "output": "b"}, {"messages": GOOD}, {"frage": "c"}, both, inputs))
    assert [row["fault"] for row in rows[3:]] == ["several_layouts"] * 2
    assert "columns instruction + output and instruction + response would both do" in rows[3]["detail"]
    assert rows[4]["detail"] == "the columns input and context could both be the input"
    assert said(rows[0]) == [("user", "a"), ("assistant", "b")]
    assert said(rows[1]) == EXPECTED
    assert (rows[2]["fault"], rows[2]["detail"][:24]) == ("other_columns", "the columns are frage; n")
