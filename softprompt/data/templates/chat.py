"""Conversations as a model's chat template writes them, cut where the answers are."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from softprompt.data.rows import Message
from softprompt.data.templates.dates import at_date
from softprompt.data.templates.rendering import Rendered, RowError
from softprompt.runtime.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

QUESTION, ANSWER = "A question?", "An answer."  # of a conversation that shows how a template writes one
THOUGHT = re.compile(r"[<\[](/?)(?:think|thinking|thought|reasoning)[>\]]", re.IGNORECASE)  # its beginning or its end
REMEDY = (
    "tokenize.chat_template_kwargs, such as {enable_thinking: false}, or tokenize.chat_template, a file of your own, "
    "may change that"
)
REWRITTEN = "an earlier answer has no label: the chat template writes it otherwise once the conversation goes on"
UNWRITTEN = "a thought (reasoning_content) is left out by the chat template"


class ChatTemplate:
    """A model's chat template, or one of one's own.

    Args:
        tokenizer: the model's.
        text: the template, in Jinja.
        kwargs: variables of it, such as `enable_thinking`.
        date: what it takes for today.
        system: system turn of the conversation that shows how the template writes one, or None.

    Attributes:
        end_id: the token that ends an answer; None: the template writes none.
        lead: what it writes between prompt and answer, such as a blank; it is learnt with the answer.
        ending: what it writes after an answer, up to its end token.

    Raises:
        InputError: if it is no template, or takes no question with an answer.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", text: str, kwargs: dict[str, Any], date: str, system: str | None
    ) -> None:
        self.tokenizer, self.kwargs, self.source = tokenizer, kwargs, at_date(text, date)
        for name in kwargs:
            if not re.search(rf"\b{re.escape(name)}\b", text):
                raise InputError(f"tokenize.chat_template_kwargs: the chat template has no variable {name!r}")
        asked = [{"role": "user", "content": QUESTION}]
        if system is not None:
            asked.insert(0, {"role": "system", "content": system})
        whole, question, prompt = self._shown(asked)
        before, _, self._tail = whole.rpartition(ANSWER)
        # Where a template knows no generation prompt, what it writes between question and answer is one; but a blank
        # there, as Llama 2's, is the answer's: tokenizers join it to the first word.
        between = before[len(prompt) :] if before.startswith(prompt) else ""
        self._header = between.rstrip(" ") if prompt == question and between.strip() else ""
        self.lead = between[len(self._header) :]
        self.end_id, self.ending = self._end()
        self._closing = _closing(prompt[len(question) :]) if prompt.startswith(question) else ""

    def to_learn(self, turns: Sequence[Message], learnt: Sequence[int], input: str) -> Rendered:
        """A conversation to train on.

        Args:
            turns: the conversation.
            learnt: places of the answers in it that are learnt, at least one.
            input: of no use here: the first question has it.

        Raises:
            RowError: if the template refuses the conversation, or writes one of these answers after another prompt.
        """
        turns = turns[: learnt[-1] + 1]
        text, remarks = self._render(turns), []
        answers = self._answers(turns, text, learnt)
        if any(place not in answers for place in learnt):
            remarks.append(REWRITTEN)
        for place in learnt:
            if place not in answers:
                continue
            start, end = answers[place]
            thought = turns[place].get("reasoning_content")
            if thought and thought.strip() not in text[start:end]:
                remarks.append(UNWRITTEN)
            elif THOUGHT.search(self.lead) and text.startswith(self.lead, start):
                remarks.append(f"{self.lead!r} is learnt with the answer, as the chat template has it; {REMEDY}")
        return Rendered(text[: answers[learnt[-1]][1]], answers, tuple(dict.fromkeys(remarks)))

    def to_answer(self, turns: Sequence[Message]) -> Rendered:
        """A conversation up to where the next answer begins.

        Raises:
            RowError: if the template refuses it.
        """
        text = self._prompt(turns)
        return Rendered(text, self._answers(turns, text, ()))

    def whole(self, parts: Sequence[tuple[Sequence[Message], str]]) -> Rendered:
        """A conversation, in parts, with all that the template writes after its last turn; inputs are in the turns.

        Raises:
            RowError: if the template refuses it.
        """
        turns = [turn for part, _ in parts for turn in part]
        text = self._render(turns)
        return Rendered(text, self._answers(turns, text, ()))

    def _answers(self, turns: Sequence[Message], text: str, learnt: Sequence[int]) -> dict[int, tuple[int, int]]:
        answers = {}
        for place, turn in enumerate(turns):
            if turn["role"] != "assistant":
                continue
            try:
                written = text if place + 1 == len(turns) else self._render(turns[: place + 1])
                start, end = self._answer(self._prompt(turns[:place]), written)
            except RowError:
                if place in learnt:
                    raise
                continue  # it is context, which need not follow a prompt
            if text.startswith(written[:end]) and (self.ending or written == text):
                answers[place] = start, end
        return answers

    def _answer(self, prompt: str, written: str) -> tuple[int, int]:
        """Where the answer that `written` ends with starts and ends, its end token included."""
        start, end = len(prompt), len(written) - len(self._tail) + len(self.ending)
        if self._closing and self._closing not in written[start:]:
            raise RowError(f"the prompt opens a thought that the answer does not close with {self._closing}; {REMEDY}")
        if not written.startswith(prompt):
            raise RowError(
                f"the chat template writes no answer after its own prompt; {REMEDY}", _parting(prompt, written)
            )
        if not written.endswith(self._tail) or end < start:
            raise RowError(
                "the chat template ends the answer otherwise than others", f"{written[-40:]!r}, not {self._tail!r}"
            )
        return start, end

    def _prompt(self, turns: Sequence[Message]) -> str:
        return self._render(turns, to_answer=True) + self._header

    def _render(self, turns: Sequence[Message], *, to_answer: bool = False) -> str:
        from jinja2 import TemplateSyntaxError

        try:
            return str(
                self.tokenizer.apply_chat_template(
                    list(turns),
                    chat_template=self.source,
                    tokenize=False,
                    add_generation_prompt=to_answer,
                    **self.kwargs,
                )
            )
        except TemplateSyntaxError as error:
            raise InputError(f"tokenize.chat_template: no template in Jinja: {error}") from None
        except Exception as error:  # templates raise what they like, for instance where they allow no system turn
            raise RowError(f"the chat template refuses the messages: {error}") from None

    def _shown(self, asked: list[Message]) -> tuple[str, str, str]:
        """A short conversation, its question, and that as a prompt."""
        answered = [*asked, {"role": "assistant", "content": ANSWER}]
        try:
            shown = self._render(answered), self._render(asked), self._render(asked, to_answer=True)
        except RowError as error:
            remedy = "; tokenize.fold_system: true makes a system turn part of the question" if len(asked) > 1 else ""
            raise InputError(f"tokenize.template: {error}{remedy}") from None
        if ANSWER not in shown[0]:
            raise InputError("tokenize.chat_template: it writes no answers (turns of the role assistant)")
        return shown

    def _end(self) -> tuple[int | None, str]:
        """The first special token after an answer, and what is written up to its end. Not always the `eos_token`."""
        tokens = self.tokenizer.added_tokens_decoder.items()
        found = [
            (self._tail.index(token.content), -len(token.content), end_id)
            for end_id, token in tokens
            if token.content in self._tail and not token.content.isspace()
        ]
        if not found:
            return None, ""
        place, length, end_id = min(found)
        return end_id, self._tail[: place - length]


def _closing(generation_prompt: str) -> str:
    """What closes the thought that a generation prompt opens and leaves open; "" where it does not."""
    tags = [(tag[0], tag[1]) for tag in THOUGHT.finditer(generation_prompt)]
    last, slash = tags[-1] if tags else ("", "/")
    return "" if slash else f"{last[0]}/{last[1:]}"


def _parting(prompt: str, written: str) -> str:
    """Where two texts part, with what comes before."""
    pairs = enumerate(zip(prompt, written, strict=False))
    place = next((place for place, (one, other) in pairs if one != other), len(written))
    start, end = max(place - 30, 0), place + 30
    return f"the prompt {prompt[start:end]!r}, the conversation {written[start:end]!r}"
