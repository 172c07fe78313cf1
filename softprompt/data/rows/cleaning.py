"""Which rows are kept, and what they become.

Rows are cleaned a part at a time. What is said of all of them, duplicates and the sample that `prepare.max_samples`
keeps, needs two hashes of each row, which fit into memory where the rows don't.
"""

import json

import numpy as np
import pandas as pd

from softprompt.data.rows import Message, clean, instruction_of, question_key, short_hash

FAULTS = ("without_instruction", "without_output")


def cleaned(raw: pd.DataFrame) -> pd.DataFrame:
    """Each row of `raw` as a row of `PREPARED_SCHEMA`, and its `fault`: one of `FAULTS`, or "".

    Texts are trimmed and in NFC. Of a conversation, every answer has to have a text.
    """
    messages = raw["messages"].map(lambda turns: [_cleaned_turn(turn) for turn in turns])
    rows = pd.DataFrame({"messages": messages, "input": raw["input"].map(clean), "source": raw["source"]})
    question = messages.map(lambda turns: next(turn["content"] for turn in turns if turn["role"] == "user"))
    answered = messages.map(lambda turns: all(turn["content"] for turn in turns if turn["role"] == "assistant"))
    instruction = pd.Series(map(instruction_of, question, rows["input"]), index=rows.index, dtype=str)
    rows["question_id"] = question.map(question_key).map(short_hash)
    rows["example_id"] = messages.map(lambda turns: json.dumps(turns, ensure_ascii=False)).map(short_hash)
    faults = np.select([instruction == "", ~answered.astype(bool)], FAULTS, "")
    rows["fault"] = pd.Categorical(faults, categories=["", *FAULTS])
    return rows


def _cleaned_turn(turn: Message) -> Message:
    """Without the keys that say nothing, so that a turn of role and content has one hash wherever it came from."""
    texts = {key: clean(turn[key]) for key in ("content", "reasoning_content") if turn.get(key) is not None}
    return {"role": turn["role"], **texts, **({"weight": 0} if turn.get("weight") == 0 else {})}


def selected(example_ids: np.ndarray, faults: pd.Series, max_samples: int | None) -> tuple[np.ndarray, dict[str, int]]:
    """Which rows are kept, a mask, and how many were dropped for which reason.

    Dropped: rows with a fault, and rows whose messages are those of an earlier row. Of the rest, `max_samples` keeps
    those whose hash is lowest: a sample that does not depend on the order, and that more rows change as little as can
    be.

    Args:
        example_ids: hash of each row's messages, uint64.
        faults: of each row, as `cleaned` has them.
        max_samples: null: no limit.
    """
    dropped = {fault: int((faults == fault).sum()) for fault in FAULTS}
    sound = np.flatnonzero(faults == "")
    hashes, first = np.unique(example_ids[sound], return_index=True)  # in the order of the hashes
    dropped["duplicate"] = len(sound) - len(hashes)
    chosen = sound[first[:max_samples]]
    dropped["over_max_samples"] = len(hashes) - len(chosen)
    keep = np.zeros(len(example_ids), dtype=bool)
    keep[chosen] = True
    return keep, dropped
