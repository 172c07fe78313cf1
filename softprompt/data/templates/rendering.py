"""What a template makes of a conversation: a text with answers in it, or a refusal."""

from dataclasses import dataclass

from softprompt.runtime.errors import InputError


class RowError(InputError):
    """A conversation that a template or tokenizer doesn't take; tokenize drops such a row and counts it.

    Args:
        reason: the same text for all rows that it holds for.
        detail: what is to be seen in this one.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Rendered:
    """A conversation as text.

    Attributes:
        text: what the template writes, up to the end of the last answer that is learnt, or to where an answer begins.
        answers: place of an answer's turn -> where it starts and ends in `text`, its end token included. One that the
            template writes otherwise once the conversation goes on is not there.
        remarks: what is to be told of the conversation.
    """

    text: str
    answers: dict[int, tuple[int, int]]
    remarks: tuple[str, ...] = ()
