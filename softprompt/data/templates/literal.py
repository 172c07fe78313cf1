"""Conversations in a literal text: each question in the text, each answer with an end token."""

from collections.abc import Sequence
from string import Formatter

from softprompt.data.rows import Message, instruction_of
from softprompt.data.templates.rendering import Rendered
from softprompt.runtime.errors import InputError


class LiteralTemplate:
    """A text with {instruction} and perhaps {input}.

    Args:
        text: it.
        ending: the text of the token that ends an answer.

    Attributes:
        lead: what comes between prompt and answer: nothing.
        ending: as above.
    """

    lead = ""

    def __init__(self, text: str, ending: str) -> None:
        self.text, self.ending = text, ending
        self._names_input = any(name == "input" for _, name, _, _ in Formatter().parse(text))

    def to_learn(self, turns: Sequence[Message], learnt: Sequence[int], input: str) -> Rendered:
        """A conversation to train on; see `ChatTemplate.to_learn`. `input`: the end of the first question, or empty."""
        return self._rendered(turns[: learnt[-1] + 1], input)

    def to_answer(self, turns: Sequence[Message]) -> Rendered:
        """A conversation up to where the next answer begins."""
        return self._rendered(turns, "")

    def whole(self, parts: Sequence[tuple[Sequence[Message], str]]) -> Rendered:
        """Conversations, each with its `input`, one after the other."""
        text, turns = "", 0
        answers: dict[int, tuple[int, int]] = {}
        for part, input in parts:
            rendered = self._rendered(part, input)
            start = len(text)
            answers |= {turns + place: (start + a, start + b) for place, (a, b) in rendered.answers.items()}
            text, turns = text + rendered.text, turns + len(part)
        return Rendered(text, answers)

    def _rendered(self, turns: Sequence[Message], input: str) -> Rendered:
        """Without {input} in the text the input follows the instruction, on a new line: nothing is lost."""
        if any(turn["role"] == "system" for turn in turns):
            raise InputError(
                "tokenize.template: literal text has no place for the rows' system turns; use chat, or "
                "tokenize.fold_system: true, which makes them part of the first question"
            )
        text, answers = "", {}
        for place, turn in enumerate(turns):
            content = turn["content"]
            if turn["role"] == "assistant":
                answers[place] = len(text), len(text) + len(content) + len(self.ending)
                text += content + self.ending
            elif self._names_input:
                given = input if place == 0 else ""  # an Alpaca row's, and such a row has one turn
                text += self.text.format(instruction=instruction_of(content, given), input=given)
            else:
                text += self.text.format(instruction=content)
        return Rendered(text, answers)
