"""The one formatter of training, evaluation and generation: what the user says becomes a prompt, answers are labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from string import Formatter
from typing import TYPE_CHECKING

from softprompt.data.rows import Message, instruction_of
from softprompt.data.tokens import IGNORED
from softprompt.runtime.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHAT = "chat"


@dataclass(frozen=True)
class Encoded:
    """A row as tokens.

    Attributes:
        input_ids: the conversation, at most `max_length` tokens.
        labels: same length; each answer and its end token, `IGNORED` elsewhere.
        truncated: whether it was truncated; a truncated answer has no end token.
    """

    input_ids: list[int]
    labels: list[int]
    truncated: bool


class Template:
    """Renders rows with a model's chat template, or with a literal text.

    Args:
        tokenizer: the model's tokenizer.
        text: "chat", or literal text with {instruction} and perhaps {input}.
        system: system turn of the chat template, or None for the template's own default.

    Raises:
        InputError: if the tokenizer has no chat template, or no end token.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", text: str, system: str | None) -> None:
        self.tokenizer, self.text, self.system = tokenizer, text, system
        if text == CHAT and not tokenizer.chat_template:
            raise InputError(
                "tokenize.template: the model has no chat template; write a literal one, such as "
                "'Question: {instruction} | Answer: '"
            )
        self.names_input = text != CHAT and any(name == "input" for _, name, _, _ in Formatter().parse(text))
        self.end_id, self.end_text = self._end()

    def prompt(self, messages: list[Message], input: str) -> str:
        """The text that comes before the answer to `messages`, which end with the user's turn.

        A literal template without {input} gets the input after the instruction, on a new line: nothing is lost.
        """
        if self.text == CHAT:
            return self._chat(messages, to_answer=True)
        if any(message["role"] == "system" for message in messages):
            raise InputError("tokenize.template: literal text has no place for the rows' system turns; use chat")
        texts = []
        for number, message in enumerate(messages):
            content = message["content"]
            if message["role"] == "assistant":
                texts.append(content + self.end_text)
            elif self.names_input:
                given = input if number == 0 else ""  # an Alpaca row's, and such a row has one turn
                texts.append(self.text.format(instruction=instruction_of(content, given), input=given))
            else:
                texts.append(self.text.format(instruction=content))
        return "".join(texts)

    def prompt_ids(self, messages: list[Message]) -> list[int]:
        """`prompt` as token ids: what generation starts from."""
        return self._tokens([self.prompt(messages, "")])[0]

    def encode(self, rows: list[dict], max_length: int | None) -> Iterator[Encoded | int]:
        """Each row of `PREPARED_SCHEMA` as tokens; for a row whose question leaves no room for a label, its length.

        Every turn of the assistant has labels. What comes before an answer and the answer are tokenized apart, since in
        generation the prompt's tokens are given. Batched: one call of the tokenizer for all texts.
        """
        parts = [self._parts(row["messages"], row["input"]) for row in rows]
        tokens = iter(self._tokens([text for row in parts for pair in row for text in pair]))
        for row in parts:
            ids, labels, first = list[int](), list[int](), 0
            for _ in row:
                prompt, answer = next(tokens), [*next(tokens), self.end_id]
                first = first or len(prompt)
                ids += prompt + answer
                labels += [IGNORED] * len(prompt) + answer
            if max_length is not None and first >= max_length:
                yield first
            else:
                kept = ids[:max_length]
                yield Encoded(kept, labels[:max_length], len(kept) < len(ids))

    def _parts(self, messages: list[Message], input: str) -> list[tuple[str, str]]:
        """Each answer of a conversation with the text between the end of the answer before and it."""
        parts, so_far = [], ""
        for number, message in enumerate(messages):
            if message["role"] == "assistant":
                before = self.prompt(messages[:number], input)
                if not before.startswith(so_far):
                    raise InputError(
                        "tokenize.template: the model's chat template writes an earlier answer differently once the "
                        "conversation goes on, so it can't be trained on as it was given; give single turns"
                    )
                parts.append((before[len(so_far) :], message["content"]))
                so_far = before + message["content"] + self.end_text
        return parts

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        # A chat template writes the special tokens itself. Literal text gets none either: the answer follows directly.
        return self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]

    def _chat(self, messages: list[Message], *, to_answer: bool) -> str:
        own = any(message["role"] == "system" for message in messages)
        system = [] if self.system is None or own else [{"role": "system", "content": self.system}]
        turns = [*system, *messages]
        try:
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=to_answer))
        except Exception as error:  # templates raise what they like, for instance where they allow no system turn
            raise InputError(f"tokenize.template: the model's chat template refuses the messages: {error}") from None

    def _end(self) -> tuple[int, str]:
        """The special token that ends an answer, and what the template writes for it ("": nothing).

        In a chat template that is not always the tokenizer's end token.
        """
        end_id, text = self.tokenizer.eos_token_id, ""
        if self.text == CHAT:
            answer = "answer"
            turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": answer}]
            _, _, rest = self._chat(turns, to_answer=False).rpartition(answer)
            after = self._tokens([rest])[0][:1]
            if after and after[0] in self.tokenizer.added_tokens_decoder:
                end_id = after[0]
                text = str(self.tokenizer.decode([end_id]))
        elif end_id is not None:
            text = str(self.tokenizer.decode([end_id]))
        if end_id is None:
            raise InputError("the model's tokenizer has no end token (eos_token): answers could not end")
        return end_id, text
