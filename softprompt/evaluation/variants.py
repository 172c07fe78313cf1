"""The variants on identical rows: the base model, alone and with a hard or a few-shot prompt, and the tuned prompt."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from softprompt.config import Params
from softprompt.config.evaluate import Generate
from softprompt.data.rows import Message
from softprompt.data.templates import Template
from softprompt.data.templates.demonstrations import Demonstrations
from softprompt.data.tokens import IGNORED, Row, check_embedded, context_of
from softprompt.engine.finite import check_finite
from softprompt.engine.model import SharedPrefixModel
from softprompt.engine.row_losses import row_losses
from softprompt.evaluation.answers import Answer, generate_answers, generation_config
from softprompt.evaluation.hard_prompt import SYSTEM_TURN, HardPrompt, with_system_turn
from softprompt.evaluation.names import NAMES
from softprompt.provenance.origin import ORIGIN, Origin, read_origin
from softprompt.runtime.errors import InputError
from softprompt.training.base import check_lengths, hard_prompt_tokens, load_base_model

UNLIMITED = 2**31


@dataclass(frozen=True)
class Given:
    """What a variant is given.

    Attributes:
        rows: the rows, with the same labels for every variant.
        ahead: tokens in front of each, without a label.
    """

    rows: Sequence[Row] | Dataset
    ahead: Sequence[int] = ()

    def questions(self, places: Sequence[int]) -> list[list[int]]:
        """Token ids up to the first answer of the rows at `places`."""
        chosen = self.rows.select(places) if isinstance(self.rows, Dataset) else [self.rows[at] for at in places]
        return [[*self.ahead, *row["input_ids"][: first_label(row)]] for row in chosen]


def first_label(row: Row) -> int:
    """The place of a row's first label."""
    return next(place for place, label in enumerate(row["labels"]) if label != IGNORED)


def template_of(tokenizer: PreTrainedTokenizerBase, adapter: Path, origin: Origin) -> Template:
    """The template that `adapter` was trained with, by its `origin`.

    Raises:
        InputError: if it can't be used with the model; it names the adapter's file, and not the user's params.
    """
    try:
        return Template(tokenizer, **origin.template_settings)
    except InputError as error:
        fault = str(error).removeprefix("tokenize.")
        raise InputError(f"{adapter / ORIGIN}: {fault}; copy the adapter again, or tune it again") from None


@dataclass(frozen=True)
class Variants:
    """One frozen model as several variants: with its adapter off, with texts before its rows, and with its adapter on.

    Attributes:
        model: the model, conditioned on the tuned prompt.
        tokenizer: the model's.
        template: that of the adapter's training.
        hard: the hard prompt.
        longest_hard: tokens of the longest text of `evaluate.hard_prompt`.
        few_shot: training rows as examples in the context; None: there is no such variant.
    """

    model: SharedPrefixModel
    tokenizer: PreTrainedTokenizerBase
    template: Template
    hard: HardPrompt
    longest_hard: int
    few_shot: Demonstrations | None = None

    @classmethod
    def load(cls, base: Path, adapter: Path, params: Params) -> "Variants":
        """From the base model's folder, an adapter that was tuned on it, and the first text of `evaluate.hard_prompt`.

        Raises:
            InputError: if the adapter is another model's or has no template for it, or a hard prompt has no token or
                one without an embedding.
        """
        origin = read_origin(adapter, base)
        tokenizer = AutoTokenizer.from_pretrained(base)
        frozen = load_base_model(base, params)
        texts = params.evaluate.hard_prompts
        ids = hard_prompt_tokens(tokenizer, texts, frozen.config)
        hard, longest = HardPrompt(texts[0], ids[0]), max(map(len, ids))
        model = SharedPrefixModel.from_pretrained(frozen, str(adapter))
        return cls(model, tokenizer, template_of(tokenizer, adapter, origin), hard, longest)

    @property
    def names(self) -> list[str]:
        """Those that there are."""
        return [name for name in NAMES if name != "few_shot" or self.few_shot]

    @property
    def virtual_tokens(self) -> int:
        """Length of the tuned prompt; 0 for an adapter that has none."""
        return self.model.virtual_tokens

    def ahead(self, variant: str) -> list[int]:
        """The tokens of a baseline in the place of the virtual tokens."""
        if variant == "few_shot" and self.few_shot:
            return self.few_shot.ids
        return self.hard.ids if variant == "hard" else []

    def in_front_of(self, rows: Sequence[Row] | Dataset) -> dict[str, Given]:
        """What each variant is given where all prompts are in front of `rows`."""
        return {variant: Given(rows, self.ahead(variant)) for variant in self.names}

    def question_ids(self, messages: list[Message], variant: str = "tuned") -> list[int]:
        """Token ids of a conversation that ends with the user's turn, in the template, after the variant's text.

        Raises:
            InputError: if the template doesn't take it, or the model has no embedding of a token.
        """
        ahead = self.ahead(variant)
        if variant == "hard" and self.hard.place == SYSTEM_TURN:
            messages, ahead = with_system_turn(messages, self.hard.text, self.template.system), []
        ids = self.template.prompt_ids(messages)
        check_embedded(ids, self.tokenizer, self.model.frozen.config, "the question")
        return ahead + ids

    def check_lengths(self, *, longest_row: int, longest_question: int, new_tokens: int) -> None:
        """`softprompt.training.base.check_lengths` of these prompts."""
        check_lengths(
            self.model.frozen,
            hard=self.longest_hard,
            soft=self.virtual_tokens,
            longest_row=longest_row,
            longest_question=longest_question,
            new_tokens=new_tokens,
        )

    @property
    def context(self) -> int:
        """Tokens that the model takes at most."""
        return context_of(self.model.frozen.config) or UNLIMITED

    def room_after(self, question: int) -> int:
        """Tokens that the context leaves for an answer after the longer prompt and a question of so many."""
        return self.context - max(self.longest_hard, self.virtual_tokens) - question

    @contextlib.contextmanager
    def turn(self, variant: str) -> Iterator[None]:
        """The model as `variant`, whose text, if it has one, its rows bring along."""
        with contextlib.nullcontext() if variant == "tuned" else self.model.disable_adapter():
            yield

    def losses(self, given: Mapping[str, Given], batch_size: int, what: str) -> pd.DataFrame:
        """Summed loss in nats of each row under each variant of `given`, and its label `tokens`.

        Raises:
            InputError: if a loss is not finite.
        """
        losses = pd.DataFrame(index=pd.RangeIndex(len(next(iter(given.values())).rows)))
        for variant, of_variant in given.items():
            with self.turn(variant):
                losses[variant], losses["tokens"] = row_losses(
                    self.model, of_variant.rows, batch_size, f"{what}: {variant}", of_variant.ahead
                )
            check_finite(
                self.model,
                losses[variant].sum(skipna=False),
                f"evaluate: the loss of the {what} ({variant})",
                "base weights and an adapter that give a number in this precision",
            )
        return losses

    def answers(
        self, questions: Mapping[str, Sequence[list[int]]], generate: Generate, batch_size: int, seed: int
    ) -> dict[str, list[Answer]]:
        """Each variant's answer to each of its `questions`, token ids; see `generate_answers`."""
        config = generation_config(generate, self.model.frozen, self.template.end_id)
        answers = {}
        for variant, of_variant in questions.items():
            with self.turn(variant):
                answers[variant] = generate_answers(
                    self.model, of_variant, config, batch_size, seed=seed, description=f"answers: {variant}"
                )
        return answers
