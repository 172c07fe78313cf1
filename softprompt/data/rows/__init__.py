"""What a row is, from fetch_data to tokenize.

A row is a conversation: `messages`, a list of turns; `input`, the part of the first user turn that came from an Alpaca
row's input (empty where there is none); `source`, the file that it came from. A turn has `role` and `content`, and
perhaps `reasoning_content`, the thought before an answer, and `weight`: 0 where an answer must not be learnt.

As fetched, a row also has `place`, its file and number there; `split`, the split that it was fetched for; `fault`, why
it is of no use ("": it is), with the `detail`; and `note`, what was left out of its conversation ("": nothing).
"""

import hashlib
import unicodedata
from typing import Any

import pyarrow as pa

TURN = pa.struct(
    [("role", pa.string()), ("content", pa.string()), ("reasoning_content", pa.string()), ("weight", pa.int8())]
)
MESSAGES = pa.list_(TURN)
CONVERSATION = (("messages", MESSAGES), ("input", pa.string()), ("source", pa.string()))
RAW_SCHEMA = pa.schema(
    [*CONVERSATION, *((name, pa.string()) for name in ("place", "split", "fault", "detail", "note"))]
)
# `example_id` is a hash of the messages; `question_id` of what is asked alone: rows that share it are one question.
PREPARED_SCHEMA = pa.schema([("example_id", pa.string()), ("question_id", pa.string()), *CONVERSATION])

Message = dict[str, Any]  # a turn: its keys, of which those that are None say nothing


def make_row(instruction: str, input: str, output: str, source: str) -> dict:
    """The conversation of Alpaca's columns: the input follows the instruction on a new line."""
    input = input.strip()
    question = f"{instruction.strip()}\n{input}" if input else instruction.strip()
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": output}]
    return {"messages": messages, "input": input, "source": source}


def instruction_of(question: str, input: str) -> str:
    """The first user turn without its input."""
    return question.removesuffix(input).rstrip() if input else question


def clean(text: str) -> str:
    """`text` trimmed and in Unicode's normal form C."""
    return unicodedata.normalize("NFC", text).strip()


def question_key(question: str) -> str:
    """What makes two questions the same: NFC, case-folded, white space collapsed."""
    return " ".join(unicodedata.normalize("NFC", clean(question).casefold()).split())


def short_hash(text: str) -> str:
    """The first 16 hexadecimal digits of SHA-256: 64 bits, uniform, the same on every machine."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
