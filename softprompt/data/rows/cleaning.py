"""Which rows are kept, and what they become.

Rows are cleaned a part at a time. What is said of all of them, duplicates and the sample that `prepare.max_samples`
keeps, needs two hashes of each row, which fit into memory where the rows don't.
"""

import json
from collections import Counter

import numpy as np
import pandas as pd

from softprompt.data.rows import Message, clean, instruction_of, question_key, short_hash

EMPTY = ("without_instruction", "without_output")  # faults of rows that can be read


def cleaned(raw: pd.DataFrame) -> pd.DataFrame:
    """Each row of `raw` as a row of `PREPARED_SCHEMA`, with its `fault`, `detail`, `note`, `place` and `split`.

    Texts are trimmed and in NFC. Every question and every answer of a conversation has to have a text. What is asked is
    all that comes before the first answer.
    """
    messages = raw["messages"].map(lambda turns: [_cleaned_turn(turn) for turn in turns])
    rows = raw.assign(messages=messages, input=raw["input"].map(clean))
    asked = messages.map(_asked)
    question = messages.map(lambda turns: next((turn["content"] for turn in turns if turn["role"] == "user"), ""))
    asks = messages.map(lambda turns: all(turn["content"] for turn in turns if turn["role"] == "user"))
    answers = messages.map(lambda turns: all(turn["content"] for turn in turns if turn["role"] == "assistant"))
    instruction = pd.Series(map(instruction_of, question, rows["input"]), index=rows.index, dtype=str)
    rows["question_id"] = asked.map(question_key).map(short_hash)
    rows["example_id"] = messages.map(lambda turns: json.dumps(turns, ensure_ascii=False)).map(short_hash)
    empty = np.select([(instruction == "") | ~asks.astype(bool), ~answers.astype(bool)], EMPTY, "")
    rows["fault"] = raw["fault"].where(raw["fault"] != "", empty)
    return rows


def selected(
    example_ids: np.ndarray, faults: pd.Series, splits: pd.Series, max_samples: int | None
) -> tuple[np.ndarray, dict[str, int]]:
    """Which rows are kept, a mask, and how many were dropped for which reason.

    Dropped: rows with a fault, and rows whose messages are those of an earlier row of the same split. Of the rest,
    `max_samples` keeps those training rows whose hash is lowest: a sample that does not depend on the order, and that
    more rows change as little as can be.

    Args:
        example_ids: hash of each row's messages, uint64.
        faults: of each row, as `cleaned` has them.
        splits: the split that each row was fetched for.
        max_samples: null: no limit.
    """
    counts = Counter(faults[faults != ""])
    dropped = {fault: counts[fault] for fault in dict.fromkeys([*EMPTY, *sorted(counts)])}
    keep = np.zeros(len(example_ids), dtype=bool)
    dropped["duplicate"] = dropped["over_max_samples"] = 0
    for split in splits.unique():
        sound = np.flatnonzero((faults == "") & (splits == split))
        hashes, first = np.unique(example_ids[sound], return_index=True)  # in the order of the hashes
        chosen = sound[first[: max_samples if split == "train" else None]]
        dropped["duplicate"] += len(sound) - len(hashes)
        dropped["over_max_samples"] += len(hashes) - len(chosen)
        keep[chosen] = True
    return keep, dropped


def _cleaned_turn(turn: Message) -> Message:
    """Without the keys that say nothing, so that a turn of role and content has one hash wherever it came from."""
    texts = {key: clean(turn[key]) for key in ("content", "reasoning_content") if turn.get(key) is not None}
    return {"role": turn["role"], **texts, **({"weight": 0} if turn.get("weight") == 0 else {})}


def _asked(turns: list[Message]) -> str:
    """What comes before the first answer: a user's turn, perhaps behind the system's."""
    texts = []
    for turn in turns:
        if turn["role"] == "assistant":
            break
        texts.append(turn["content"])
    return "\n".join(texts)
