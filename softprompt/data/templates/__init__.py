"""The one formatter of training, evaluation and generation: what the user says becomes a prompt, answers are labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from softprompt.data.rows import Message
from softprompt.data.templates.chat import ChatTemplate
from softprompt.data.templates.encoding import Encoder
from softprompt.data.templates.literal import LiteralTemplate
from softprompt.data.templates.rendering import Rendered, RowError
from softprompt.data.tokens import IGNORED
from softprompt.runtime.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHAT = "chat"
TEXTS = ("content", "reasoning_content")  # what a turn says
DATE = "2026-01-01"


@dataclass(frozen=True)
class Encoded:
    """A row as tokens.

    Attributes:
        input_ids: the conversation, at most `max_length` tokens.
        labels: same length; each answer and its end token, `IGNORED` elsewhere.
        truncated: whether it was truncated; a truncated answer has no end token.
        remarks: what is to be told of it.
    """

    input_ids: list[int]
    labels: list[int]
    truncated: bool
    remarks: tuple[str, ...] = ()


class Template:
    """Renders rows with a chat template, or with a literal text.

    Args:
        tokenizer: the model's tokenizer.
        template: "chat", or literal text with {instruction} and perhaps {input}.
        system: system turn of conversations that have none of their own, or None for the chat template's default.
        chat_template: a chat template in Jinja, in place of the model's own.
        chat_template_kwargs: variables of the chat template.
        date: what the chat template takes for today.
        fold_system: whether a system turn becomes the beginning of the first question.

    Attributes:
        settings: these arguments but for the tokenizer, as JSON has them, with the chat template that is used.
        end_id: the token that ends an answer.
        lead: text that the chat template writes before an answer's content, such as a blank; it is learnt too.

    Raises:
        InputError: if there is no chat template, or one that can't be used, or no end token.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        template: str,
        system: str | None,
        *,
        chat_template: str | None = None,
        chat_template_kwargs: dict[str, Any] | None = None,
        date: str = DATE,
        fold_system: bool = False,
    ) -> None:
        self.tokenizer, self.system, self.fold_system = tokenizer, system, fold_system
        self._encoder = Encoder(tokenizer)
        kwargs, eos = chat_template_kwargs or {}, tokenizer.eos_token_id
        self._form: ChatTemplate | LiteralTemplate
        if template == CHAT:
            chat_template = chat_template or _own_template(tokenizer)
            shown = None if fold_system else system
            self._form = ChatTemplate(tokenizer, chat_template, kwargs, date, shown)
            end_id = self._form.end_id if self._form.end_id is not None else eos
        else:
            self._form = LiteralTemplate(template, "" if eos is None else str(tokenizer.decode([eos])))
            end_id = eos
        if end_id is None:
            raise InputError("the model's tokenizer has no end token (eos_token): answers could not end")
        self.end_id: int = end_id
        end_text = str(tokenizer.decode([end_id]))
        self.lead, self._trail = (
            str(tokenizer.decode(self._encoder.ids([["", text]])[0][1], skip_special_tokens=True))
            for text in (self._form.lead, self._form.ending.removesuffix(end_text))
        )
        self.settings = {
            "template": template,
            "system": system,
            "chat_template": chat_template,
            "chat_template_kwargs": kwargs,
            "date": date,
            "fold_system": fold_system,
        }

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """What generation starts from: the tokens of `messages`, which end with the user's turn, as training had them.

        Raises:
            RowError: if the template doesn't take them.
        """
        return self._ids_of(self._form.to_answer(self._turns(messages)))

    def conversation_ids(self, rows: Sequence[dict]) -> list[int]:
        """The tokens of rows as one conversation, up to where the next question begins.

        A chat template has the system turn of the first row alone; a literal one is written out for each row.

        Raises:
            RowError: if the template doesn't take it.
        """
        if isinstance(self._form, LiteralTemplate):
            parts = [(self._turns(row["messages"]), self._encoder.marked(row["input"])) for row in rows]
        else:
            first, *others = (row["messages"] for row in rows)
            turns = [*first, *(turn for messages in others for turn in messages if turn["role"] != "system")]
            parts = [(self._turns(turns), "")]
        return self._ids_of(self._form.whole(parts))

    def _ids_of(self, rendered: Rendered) -> list[int]:
        (ids,) = self._encoder.ids([[text for text, _ in _pieces(rendered, [])]])
        return self._encoder.begun([token for piece in ids for token in piece])

    def content_of(self, answer: str) -> str:
        """The content of a turn from the text of an answer, in which the template may have something around it."""
        return answer.removeprefix(self.lead).removesuffix(self._trail)

    def first_answer(self, messages: Sequence[Message]) -> int:
        """Place in `messages` of the first answer that has a label.

        Raises:
            RowError: if there is none.
        """
        answers = _answers_in(messages)
        if len(answers) == 1:
            return answers[0]
        rendered, learnt = self._to_learn(messages, "")
        first = next(place for place in learnt if place in rendered.answers)
        return answers[_answers_in(self._turns(messages)).index(first)]

    def encode(self, rows: Sequence[dict], max_length: int | None) -> Iterator[Encoded | RowError | int]:
        """Each row of `PREPARED_SCHEMA` as tokens; for a row whose question leaves no room for a label, its length.

        What comes before an answer and the answer are tokenized apart, since in generation the prompt's tokens are
        given. Batched: one call of the tokenizer for all texts.
        """
        rendered = [self._to_learn_or_refusal(row) for row in rows]
        cut = [[] if isinstance(row, RowError) else _pieces(*row) for row in rendered]
        tokens = self._encoder.ids([[text for text, _ in pieces] for pieces in cut])
        for row, pieces, ids in zip(rendered, cut, tokens, strict=True):
            if isinstance(row, RowError):
                yield row
            else:
                parts = [(tokens, is_learnt) for tokens, (_, is_learnt) in zip(ids, pieces, strict=True)]
                yield self._encoded(parts, max_length, row[0].remarks)

    def _encoded(
        self, parts: list[tuple[list[int], bool]], max_length: int | None, remarks: tuple[str, ...]
    ) -> Encoded | int:
        if not self._form.ending:  # then the end of the conversation is the end of its last answer
            parts.append(([self.end_id], True))
        ids = self._encoder.begun([token for tokens, _ in parts for token in tokens])
        labels = [label for tokens, is_learnt in parts for label in (tokens if is_learnt else [IGNORED] * len(tokens))]
        labels = [IGNORED] * (len(ids) - len(labels)) + labels
        first = next(place for place, label in enumerate(labels) if label != IGNORED)
        if max_length is not None and first >= max_length:
            return first
        return Encoded(ids[:max_length], labels[:max_length], max_length is not None and len(ids) > max_length, remarks)

    def _to_learn_or_refusal(self, row: dict) -> tuple[Rendered, list[int]] | RowError:
        try:
            return self._to_learn(row["messages"], row["input"])
        except RowError as refusal:
            return refusal

    def _to_learn(self, messages: Sequence[Message], input: str) -> tuple[Rendered, list[int]]:
        """A conversation, and the places of the turns that are learnt."""
        turns = self._turns(messages)
        weights = [turn.get("weight") for turn in messages if turn["role"] == "assistant"]
        learnt = [place for place, weight in zip(_answers_in(turns), weights, strict=True) if weight != 0]
        if not learnt:
            raise RowError("no answer in it is to be learnt (each has the weight 0)")
        return self._form.to_learn(turns, learnt, self._encoder.marked(input)), learnt

    def _turns(self, messages: Sequence[Message]) -> list[Message]:
        """What a template gets: no key that says nothing, no weights, special tokens in the texts marked."""
        system = [] if self.system is None or any(turn["role"] == "system" for turn in messages) else [self.system]
        given = [*({"role": "system", "content": text} for text in system), *messages]
        turns: list[Message] = []
        folded: list[str] = []
        for turn in given:
            texts = {key: self._encoder.marked(turn[key]) for key in TEXTS if turn.get(key) is not None}
            if self.fold_system and turn["role"] == "system":
                folded.append(texts["content"])
            elif folded and turn["role"] == "user":
                turns.append({"role": "user", "content": "\n\n".join([*folded, texts["content"]])})
                folded = []
            else:
                turns.append({"role": turn["role"], **texts})
        if folded:
            raise RowError("after its system turn comes no question that it could be folded into")
        return turns


def _answers_in(turns: Sequence[Message]) -> list[int]:
    return [place for place, turn in enumerate(turns) if turn["role"] == "assistant"]


def _pieces(rendered: Rendered, learnt: Sequence[int]) -> list[tuple[str, bool]]:
    """What is tokenized apart, and whether it is learnt: each answer, and what comes before it."""
    pieces, done = list[tuple[str, bool]](), 0
    for place, (start, end) in rendered.answers.items():
        pieces += [(rendered.text[done:start], False), (rendered.text[start:end], place in learnt)]
        done = end
    return [*pieces, (rendered.text[done:], False)] if done < len(rendered.text) else pieces


def _own_template(tokenizer: "PreTrainedTokenizerBase") -> str:
    try:
        return str(tokenizer.get_chat_template())
    except ValueError:
        raise InputError(
            "tokenize.template: the model has no chat template; write a literal one, such as "
            "'Question: {instruction} | Answer: ', or name a file of your own as tokenize.chat_template"
        ) from None
