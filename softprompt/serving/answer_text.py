"""An answer's text as its tokens come."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase


class AnswerText:
    """Makes text of tokens, whole characters at a time, up to a stop text.

    All tokens are decoded together: transformers' `TextStreamer` begins anew after each line, where some tokenizers
    (Llama 2's) drop a space.

    Args:
        tokenizer: the model's.
        ends: tokens that end an answer; they have no text.
        lead: what the template writes before an answer; it is no part of the text.
        stops: texts that end an answer, and are no part of it either.

    Attributes:
        text: what was returned so far.
        stopped: whether a stop text came.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, ends: Sequence[int], lead: str = "", stops: Sequence[str] = ()
    ) -> None:
        self.tokenizer, self.ends, self.lead, self.stops = tokenizer, ends, lead, stops
        self.ids: list[int] = []
        self.text = ""
        self.stopped = False

    def put(self, token: int) -> str:
        """The text that a new token completes; what may be the beginning of a stop text is held back."""
        if token not in self.ends:
            self.ids.append(token)
        text = self._before_a_stop(self._decoded().rstrip("\ufffd"))  # part of a character yet
        held_back = max((_beginning_at_the_end(text, stop) for stop in self.stops), default=0)
        return self._new(text if self.stopped else text[: len(text) - held_back])

    def end(self) -> str:
        """What was held back."""
        return self._new(self._before_a_stop(self._decoded()))

    def _decoded(self) -> str:
        text = str(self.tokenizer.decode(self.ids, skip_special_tokens=True))
        return "" if self.lead.startswith(text) else text.removeprefix(self.lead)

    def _before_a_stop(self, text: str) -> str:
        found = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        self.stopped = self.stopped or bool(found)
        return text[: min(found)] if found else text

    def _new(self, text: str) -> str:
        piece = text[len(self.text) :]
        self.text += piece
        return piece


def _beginning_at_the_end(text: str, stop: str) -> int:
    """How many characters of `stop` the text ends with, all of them aside."""
    return next((length for length in range(len(stop) - 1, 0, -1) if text.endswith(stop[:length])), 0)
