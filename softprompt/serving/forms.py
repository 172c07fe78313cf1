"""How OpenAI writes an answer: of a conversation, and of a text."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Form:
    """One of the two.

    Attributes:
        prefix: of the answer's id.
        kind, chunk: the name of a whole answer, and of a streamed piece.
        whole, piece: what a choice says of a whole answer, and of a piece.
        first, last: what the first and the last chunk say; none: there is no such first chunk.
    """

    prefix: str
    kind: str
    chunk: str
    whole: Callable[[str], dict[str, Any]]
    piece: Callable[[str], dict[str, Any]]
    first: dict[str, Any]
    last: dict[str, Any]


CHAT = Form(
    prefix="chatcmpl-",
    kind="chat.completion",
    chunk="chat.completion.chunk",
    whole=lambda text: {"message": {"role": "assistant", "content": text}},
    piece=lambda text: {"delta": {"content": text}},
    first={"delta": {"role": "assistant", "content": ""}},
    last={"delta": {}},
)
TEXT = Form(
    prefix="cmpl-",
    kind="text_completion",
    chunk="text_completion",
    whole=lambda text: {"text": text},
    piece=lambda text: {"text": text},
    first={},
    last={"text": ""},
)
