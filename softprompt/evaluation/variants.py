"""The three variants on identical rows: the base model, the hard prompt (a text), and the tuned prompt."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from softprompt.config import Params
from softprompt.data.templates import Template
from softprompt.data.tokens import IGNORED, Row
from softprompt.engine.model import SharedPrefixModel
from softprompt.engine.row_losses import row_losses
from softprompt.evaluation.answers import Answer, generate_answers, generation_config
from softprompt.evaluation.metrics import VARIANTS
from softprompt.provenance.origin import read_origin
from softprompt.runtime.errors import InputError
from softprompt.training.base import check_context, load_base_model


@dataclass(frozen=True)
class Variants:
    """One frozen model as three variants: with its adapter off, with a text in front of it, and with its adapter on.

    Attributes:
        model: the model behind the tuned prompt.
        tokenizer: the model's.
        template: that of the adapter's training.
        hard_prompt: token ids of the text; they stand where the virtual tokens stand.
    """

    model: SharedPrefixModel
    tokenizer: PreTrainedTokenizerBase
    template: Template
    hard_prompt: list[int]

    @classmethod
    def load(cls, base: Path, adapter: Path, params: Params) -> "Variants":
        """From the base model's folder, an adapter that was tuned on it, and `evaluate.hard_prompt`.

        Raises:
            InputError: if the adapter is another model's, or the hard prompt has no token.
        """
        origin = read_origin(adapter, base)
        tokenizer = AutoTokenizer.from_pretrained(base)
        text = params.evaluate.hard_prompt
        hard_prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
        if not hard_prompt:
            raise InputError(f"evaluate.hard_prompt: {text!r} has no token in this model's vocabulary")
        model = SharedPrefixModel.from_pretrained(load_base_model(base, params), str(adapter))
        return cls(model, tokenizer, Template(tokenizer, origin.template, origin.system), hard_prompt)

    @property
    def virtual_tokens(self) -> int:
        """Length of the tuned prompt."""
        return self.model.active_peft_config.num_virtual_tokens

    def check_context(self, longest_row: int, longest_question: int, new_tokens: int) -> None:
        """Refuse rows, or questions and their answers, that don't fit into the model's context behind each prompt.

        Args:
            longest_row: tokens of the longest row.
            longest_question: tokens of the longest question that is answered.
            new_tokens: tokens that an answer may have.
        """
        hard, soft = len(self.hard_prompt), self.model.active_peft_config.num_virtual_tokens
        check_context(self.model.frozen, hard, longest_row, "evaluate.hard_prompt: a text")
        check_context(self.model.frozen, soft, longest_row, "train.num_virtual_tokens: a soft prompt")
        answer = f"evaluate.generate.max_new_tokens: an answer of {new_tokens} tokens after a prompt"
        check_context(self.model.frozen, new_tokens + max(hard, soft), longest_question, answer)

    @contextlib.contextmanager
    def turn(self, variant: str) -> Iterator[list[int]]:
        """The model as `variant`, one of `VARIANTS`; yields the tokens that go before each row."""
        with contextlib.nullcontext() if variant == "tuned" else self.model.disable_adapter():
            yield self.hard_prompt if variant == "hard" else []

    def losses(self, rows: pd.DataFrame, batch_size: int, what: str) -> pd.DataFrame:
        """Summed loss in nats of each row of `input_ids` and `labels` under each variant, and its label `tokens`."""
        losses = pd.DataFrame(index=rows.index)
        for variant in VARIANTS:
            with self.turn(variant) as ahead:
                behind = behind_text(rows[["input_ids", "labels"]].to_dict("records"), ahead)
                losses[variant], losses["tokens"] = row_losses(self.model, behind, batch_size, f"{what}: {variant}")
        return losses

    def answers(self, questions: Sequence[list[int]], params: Params) -> dict[str, list[Answer]]:
        """Each variant's answer to each of `questions`, token ids, by `evaluate.generate`."""
        config = generation_config(params.evaluate.generate, self.model.frozen, self.template.end_id)
        answers = {}
        for variant in VARIANTS:
            with self.turn(variant) as ahead:
                given = [ahead + question for question in questions]
                answers[variant] = generate_answers(
                    self.model,
                    given,
                    config,
                    params.evaluate.batch_size,
                    seed=params.seed,
                    description=f"answers: {variant}",
                )
        return answers


def behind_text(rows: Sequence[Row], text: list[int]) -> list[Row]:
    """The rows with a text's tokens where the virtual tokens would stand: first, and without a label."""
    ignored = [IGNORED] * len(text)
    return [{"input_ids": text + row["input_ids"], "labels": ignored + row["labels"]} for row in rows]
