"""The one formatter of training, evaluation and generation: a row's question becomes a prompt, its answer labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from string import Formatter
from typing import TYPE_CHECKING

from stages.rows import Message, instruction_of
from stages.tokens import IGNORED
from stages.workspace.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHAT = "chat"


@dataclass(frozen=True)
class Encoded:
    """A row as tokens.

    Attributes:
        input_ids: question and answer, at most `max_length` tokens.
        labels: same length; the answer and its end token, `IGNORED` elsewhere.
        cut: whether the answer was cut; a cut answer has no end token.
    """

    input_ids: list[int]
    labels: list[int]
    cut: bool


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
        self.end_id = self._end_id()

    def prompt(self, messages: list[Message], input: str) -> str:
        """The text that comes before the answer to `messages`, which end with the user's turn.

        A literal template without {input} gets the input after the instruction, on a new line: nothing is lost.
        """
        if self.text == CHAT:
            return self._chat(messages, to_answer=True)
        question = messages[-1]["content"]
        if not self.names_input:
            return self.text.format(instruction=question)
        return self.text.format(instruction=instruction_of(question, input), input=input)

    def encode(self, rows: list[dict], max_length: int) -> Iterator[Encoded | int]:
        """Each row of `PREPARED_SCHEMA` as tokens; for a row whose question leaves no room for a label, its length.

        Prompt and answer are tokenized apart, since in generation the prompt's tokens are given. Batched: one call of
        the tokenizer for all prompts and one for all answers.
        """
        prompts = self._tokens([self.prompt(row["messages"][:-1], row["input"]) for row in rows])
        answers = self._tokens([row["messages"][-1]["content"] for row in rows])
        for prompt, answer in zip(prompts, answers, strict=True):
            label = [*answer, self.end_id]
            room = max_length - len(prompt)
            if room < 1:
                yield len(prompt)
                continue
            cut = room < len(label)
            label = label[:room]
            yield Encoded(prompt + label, [IGNORED] * len(prompt) + label, cut)

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        # A chat template writes the special tokens itself. Literal text gets none either: the answer follows directly.
        return self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]

    def _chat(self, messages: list[Message], *, to_answer: bool) -> str:
        turns = [{"role": "system", "content": self.system}, *messages] if self.system is not None else messages
        try:
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=to_answer))
        except Exception as error:  # templates raise what they like, for instance where they allow no system turn
            raise InputError(f"tokenize.template: the model's chat template refuses the messages: {error}") from None

    def _end_id(self) -> int:
        """The special token that the chat template puts after an answer (not always the tokenizer's end token)."""
        end_id = self.tokenizer.eos_token_id
        if self.text == CHAT:
            answer = "answer"
            turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": answer}]
            _, _, rest = self._chat(turns, to_answer=False).rpartition(answer)
            after = self._tokens([rest])[0][:1]
            if after and after[0] in self.tokenizer.added_tokens_decoder:
                end_id = after[0]
        if end_id is None:
            raise InputError("the model's tokenizer has no end token (eos_token): answers could not end")
        return end_id
