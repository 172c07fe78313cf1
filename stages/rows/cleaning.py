"""Which rows are kept, and what they become."""

import json

import pandas as pd

from stages.rows import clean, instruction_of, question_key, short_hash


def cleaned(raw: pd.DataFrame, max_rows: int | None) -> tuple[pd.DataFrame, dict[str, int]]:
    """Rows of `PREPARED_SCHEMA` in the order of `raw`, and how many were dropped for which reason.

    Texts are trimmed and in NFC. Dropped: rows without an instruction, rows without an output (of a conversation: with
    an empty answer), and rows whose messages are those of an earlier row. Of the rest, `max_rows` keeps those whose
    hash is lowest: a sample that does not depend on the order, and that adding rows changes as little as can be.
    """
    messages = raw["messages"].map(lambda turns: [{"role": t["role"], "content": clean(t["content"])} for t in turns])
    rows = pd.DataFrame({"messages": messages, "input": raw["input"].map(clean), "source": raw["source"]})
    question = messages.map(lambda turns: next(turn["content"] for turn in turns if turn["role"] == "user"))
    answered = messages.map(lambda turns: all(turn["content"] for turn in turns if turn["role"] == "assistant"))
    instruction = pd.Series(map(instruction_of, question, rows["input"]), index=rows.index, dtype=str)
    rows["question_id"] = question.map(question_key).map(short_hash)
    rows["example_id"] = messages.map(lambda turns: json.dumps(turns, ensure_ascii=False)).map(short_hash)

    dropped = {}
    keep = pd.Series(True, index=rows.index)
    for reason, wanted in (
        ("without_instruction", instruction != ""),
        ("without_output", answered),
    ):
        dropped[reason] = int((keep & ~wanted).sum())
        keep &= wanted
    rows = rows[keep]
    distinct = rows.drop_duplicates("example_id")
    dropped["duplicate"] = len(rows) - len(distinct)
    chosen = distinct if max_rows is None else distinct[distinct["example_id"].rank() <= max_rows]
    dropped["over_max_rows"] = len(distinct) - len(chosen)
    return chosen.reset_index(drop=True), dropped
