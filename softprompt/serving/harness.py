"""The tuned model as a model of lm-evaluation-harness (the extra `harness`): its tasks, asked as in training.

docs/harness.md shows how it is used, and what differs from the harness's own `hf` model.
"""

import json
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from softprompt.data.templates import Encoded
from softprompt.data.templates.rendering import RowError
from softprompt.data.tokens import IGNORED
from softprompt.evaluation.variants import Variants
from softprompt.runtime.errors import InputError

INSTALL = "pip install lm-eval==0.4.13"

try:
    from lm_eval.models.huggingface import HFLM
except ModuleNotFoundError as error:
    raise InputError(f"lm-evaluation-harness is not installed: {INSTALL}") from error

CHAT = "\0"  # in front of a conversation as JSON; no text of a task begins so


class HarnessModel(HFLM):
    """`variants`' model for `lm_eval.simple_evaluate`: the tuned one, or the one whose turn it is (`Variants.turn`).

    With `apply_chat_template=True` questions are rendered by the template of the adapter's training, with its date,
    its variables and its system turn (where a task has none), and the tokens of an answer are those of training, its
    end token included. What has no chat template, such as perplexity of texts, is as in the harness.

    The methods with an underscore are the harness's own hooks for subclasses; it has no others for what they do.

    Args:
        variants: the model, its tokenizer and its template.
        batch_size: rows of one forward.
    """

    def __init__(self, variants: Variants, batch_size: int = 8) -> None:
        super().__init__(
            pretrained=variants.model,
            tokenizer=variants.tokenizer,
            batch_size=batch_size,
            max_length=variants.context - variants.virtual_tokens,
        )
        self.template = variants.template

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template's text, for the harness's record of its settings."""
        settings = self.template.settings
        return str(settings["chat_template"] or settings["template"]) if chat_template else None

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The conversation as JSON, which the methods below take for a conversation: a text could not be cut again.

        Raises:
            InputError: for a task that begins the answer itself.
        """
        if not add_generation_prompt:
            raise InputError("a task with gen_prefix begins the answer, which no training did; allowed: other tasks")
        return CHAT + json.dumps(chat_history, ensure_ascii=False)

    def tok_encode(self, string: str, *args: Any, **kwargs: Any) -> list[int]:
        """Token ids of a text or of a conversation up to its answer."""
        if string.startswith(CHAT):
            return self.template.prompt_ids(json.loads(string.removeprefix(CHAT)))
        return super().tok_encode(string, *args, **kwargs)

    def tok_batch_encode(
        self, strings: list[str], padding_side: str = "left", left_truncate_len: int | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Token ids of texts or conversations, padded, and their mask, each (rows, length)."""
        if not strings[0].startswith(CHAT):
            return super().tok_batch_encode(strings, padding_side, left_truncate_len, **kwargs)
        rows = [torch.tensor(self.tok_encode(string)[-(left_truncate_len or 0) :]) for string in strings]
        padding: Any = {"batch_first": True, "padding_side": padding_side}
        mask = pad_sequence([torch.ones_like(row) for row in rows], **padding)
        return pad_sequence(rows, **padding, padding_value=self.tokenizer.pad_token_id), mask

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Of a conversation and its answer, tokenized apart as in training; the harness would move white space over."""
        if not context.startswith(CHAT):
            return super()._encode_pair(context, continuation)
        messages = [{**turn, "weight": 0} for turn in json.loads(context.removeprefix(CHAT))]
        row = {"messages": [*messages, {"role": "assistant", "content": continuation}], "input": ""}
        (encoded,) = self.template.encode([row], None)
        if isinstance(encoded, RowError):
            raise encoded
        assert isinstance(encoded, Encoded), "without a limit none is too long"
        start = next(place for place, label in enumerate(encoded.labels) if label != IGNORED)
        return encoded.input_ids[:start], encoded.input_ids[start:]

    def _model_generate(self, context: Tensor, max_length: int, stop: list[str], **kwargs: Any) -> Tensor:
        """By transformers' own stop strings: the harness's criterion breaks where a batch is made in several parts."""
        if not kwargs.get("do_sample"):
            kwargs.pop("temperature", None)  # 0, which transformers refuses
        ends = {"eos_token_id": self.template.end_id, "stop_strings": stop, "max_length": max_length}
        return self.model.generate(input_ids=context, tokenizer=self.tokenizer, **ends, **kwargs)
