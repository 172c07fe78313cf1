"""The three variants on identical rows: the base model, the hard prompt (a text), and the tuned prompt."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from softprompt.config import Params
from softprompt.config.evaluate import Generate
from softprompt.data.rows import Message
from softprompt.data.templates import Template
from softprompt.data.tokens import Row, check_embedded, context_of
from softprompt.engine.finite import check_finite
from softprompt.engine.model import SharedPrefixModel
from softprompt.engine.row_losses import row_losses
from softprompt.evaluation.answers import Answer, generate_answers, generation_config
from softprompt.evaluation.metrics import VARIANTS
from softprompt.provenance.origin import read_origin
from softprompt.training.base import check_lengths, hard_prompt_tokens, load_base_model


@dataclass(frozen=True)
class Variants:
    """One frozen model as three variants: with its adapter off, with a text in front of it, and with its adapter on.

    Attributes:
        model: the model, conditioned on the tuned prompt.
        tokenizer: the model's.
        template: that of the adapter's training.
        hard_prompt: token ids of the text; they take the place of the virtual tokens.
    """

    model: SharedPrefixModel
    tokenizer: PreTrainedTokenizerBase
    template: Template
    hard_prompt: list[int]

    @classmethod
    def load(cls, base: Path, adapter: Path, params: Params) -> "Variants":
        """From the base model's folder, an adapter that was tuned on it, and `evaluate.hard_prompt`.

        Raises:
            InputError: if the adapter is another model's, or the hard prompt has no token or one without an embedding.
        """
        origin = read_origin(adapter, base)
        tokenizer = AutoTokenizer.from_pretrained(base)
        frozen = load_base_model(base, params)
        hard_prompt = hard_prompt_tokens(tokenizer, params.evaluate.hard_prompts, frozen.config)[0]
        model = SharedPrefixModel.from_pretrained(frozen, str(adapter))
        return cls(model, tokenizer, Template(tokenizer, **origin.template_settings), hard_prompt)

    @property
    def virtual_tokens(self) -> int:
        """Length of the tuned prompt."""
        return self.model.active_peft_config.num_virtual_tokens

    def question_ids(self, messages: list[Message]) -> list[int]:
        """Token ids of a conversation that ends with the user's turn, in the template.

        Raises:
            InputError: if the template doesn't take it, or the model has no embedding of a token.
        """
        ids = self.template.prompt_ids(messages)
        check_embedded(ids, self.tokenizer, self.model.frozen.config, "the question")
        return ids

    def check_lengths(self, *, longest_row: int, longest_question: int, new_tokens: int) -> None:
        """`softprompt.training.base.check_lengths` of these prompts."""
        check_lengths(
            self.model.frozen,
            hard=len(self.hard_prompt),
            soft=self.virtual_tokens,
            longest_row=longest_row,
            longest_question=longest_question,
            new_tokens=new_tokens,
        )

    def room_after(self, question: int) -> int:
        """Tokens that the model's context leaves for an answer after the longer prompt and a question of so many."""
        context = context_of(self.model.frozen.config) or 2**31
        return context - max(len(self.hard_prompt), self.virtual_tokens) - question

    @contextlib.contextmanager
    def turn(self, variant: str) -> Iterator[list[int]]:
        """The model as `variant`, one of `VARIANTS`; yields the tokens that go before each row."""
        with contextlib.nullcontext() if variant == "tuned" else self.model.disable_adapter():
            yield self.hard_prompt if variant == "hard" else []

    def losses(self, rows: Sequence[Row] | Dataset, batch_size: int, what: str) -> pd.DataFrame:
        """Summed loss in nats of each row under each variant, and its label `tokens`.

        Raises:
            InputError: if a loss is not finite.
        """
        losses = pd.DataFrame(index=pd.RangeIndex(len(rows)))
        for variant in VARIANTS:
            with self.turn(variant) as ahead:
                losses[variant], losses["tokens"] = row_losses(
                    self.model, rows, batch_size, f"{what}: {variant}", ahead
                )
            check_finite(
                self.model,
                losses[variant].sum(skipna=False),
                f"evaluate: the loss of the {what} ({variant})",
                "base weights and an adapter that give a number in this precision",
            )
        return losses

    def answers(
        self, questions: Sequence[list[int]], generate: Generate, batch_size: int, seed: int
    ) -> dict[str, list[Answer]]:
        """Each variant's answer to each of `questions`, token ids; see `generate_answers`."""
        config = generation_config(generate, self.model.frozen, self.template.end_id)
        answers = {}
        for variant in VARIANTS:
            with self.turn(variant) as ahead:
                given = [ahead + question for question in questions]
                answers[variant] = generate_answers(
                    self.model, given, config, batch_size, seed=seed, description=f"answers: {variant}"
                )
        return answers
