"""The baselines made ready: training rows as examples in the context, and the hard prompt where it serves best."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets import Dataset

from softprompt import distributed
from softprompt.config.evaluate import Evaluate
from softprompt.data.templates.demonstrations import Demonstrations, demonstrations
from softprompt.engine.packing import row_lengths
from softprompt.evaluation.hard_prompt import SYSTEM_TURN, HardPrompt, rows_with_system_turn
from softprompt.evaluation.sample import longest_answer
from softprompt.evaluation.variants import Given, Variants
from softprompt.runtime.errors import InputError
from softprompt.training.base import hard_prompt_tokens


@dataclass(frozen=True)
class Needs:
    """What the model's context has to hold beside a prompt, in tokens.

    Attributes:
        row: of the longest row.
        question: of the longest question that is answered.
        answer: that an answer may have.
    """

    row: int
    question: int
    answer: int

    @property
    def tokens(self) -> int:
        """Of the longer of both: a row, or a question with its answer."""
        return max(self.row, self.question + self.answer)


def needs_of(variants: Variants, tokenized: Path, longest_row: int, longest_question: int, answer: int | None) -> Needs:
    """Lengths, checked to fit into the model's context beside the prompts.

    Args:
        variants: the model and its prompts.
        tokenized: the folder of the tokenized rows.
        longest_row: of all that is scored.
        longest_question: of those that are answered.
        answer: as params.yaml has it; None: that of the longest answer of the data, or what the context leaves.

    Raises:
        InputError: if they do not fit.
    """
    answer = answer or min(longest_answer(tokenized), variants.room_after(longest_question))
    variants.check_lengths(longest_row=longest_row, longest_question=longest_question, new_tokens=answer)
    return Needs(longest_row, longest_question, answer)


@dataclass(frozen=True)
class Comparison:
    """All that is compared.

    Attributes:
        variants: the model, with the prompts of the baselines.
        test: the test rows as each variant is given them.
        prompts: what metrics.json says of what is in front of the rows.
    """

    variants: Variants
    test: dict[str, Given]
    prompts: dict[str, Any]


def comparison(
    variants: Variants,
    splits: dict[str, Dataset],
    prepared: Path,
    settings: Evaluate,
    *,
    places: Sequence[int],
    needs: Needs,
) -> Comparison:
    """The baselines made ready, each as strong as the training and the validation rows make it.

    Args:
        variants: the model and its template.
        splits: the tokenized rows of each split.
        prepared: the folder that they were made from.
        settings: the hard prompts, and how many rows are examples.
        places: of the test rows that are answered.
        needs: what the context has to hold beside the prompts.
    """
    few_shot = _few_shot(variants, splits["train"], prepared, settings, needs)
    losses = [
        (hard, _validation_loss(variants, given, settings.batch_size))
        for hard, given in _candidates(variants, splits, prepared, settings.hard_prompts, places=places, needs=needs)
    ]
    hard, _ = min(losses, key=lambda pair: pair[1])  # of equals the first
    tried = [{"text": one.text, "place": one.place, "validation": loss} for one, loss in losses]
    variants = replace(variants, hard=hard, few_shot=few_shot)
    prompts = {
        "hard": {"text": hard.text, "place": hard.place, "tokens": len(hard.ids), "tried": tried},
        "few_shot": few_shot
        and {
            "examples": len(few_shot.example_ids),
            "tokens": len(few_shot.ids),
            "seed": settings.few_shot_seed,
            "example_ids": few_shot.example_ids,
        },
        "tuned": {"tokens": variants.virtual_tokens},
    }
    of_hard = given_hard(variants, hard, splits["test"], prepared)
    return Comparison(variants, variants.in_front_of(splits["test"]) | {"hard": of_hard}, prompts)


def given_hard(variants: Variants, hard: HardPrompt, rows: Dataset, prepared: Path, split: str = "test") -> Given:
    """What the variant with the hard prompt is given of a split's rows, which were made from the folder `prepared`.

    Raises:
        InputError: if the template takes no such system turn.
    """
    if hard.place == SYSTEM_TURN:
        return Given(rows_with_system_turn(rows, prepared / f"{split}.parquet", variants.template, hard.text))
    return Given(rows, hard.ids)


def _few_shot(
    variants: Variants, train: Dataset, prepared: Path, settings: Evaluate, needs: Needs
) -> Demonstrations | None:
    """Training rows as examples, if they are asked for and one fits; what does not is told."""
    wanted = settings.few_shot
    if not wanted:
        _tell("evaluate.few_shot is 0: no few-shot prompt is evaluated")
        return None
    found = demonstrations(
        variants.template,
        train["example_id"],
        prepared / "train.parquet",
        seed=settings.few_shot_seed,
        room=variants.context - needs.tokens,
        count=wanted,
    )
    if not found.ids:
        _tell(f"evaluate.few_shot is {wanted}: no row fits into the context; no few-shot prompt is evaluated")
        return None
    if len(found.example_ids) < wanted:
        _tell(f"evaluate.few_shot is {wanted}: {len(found.example_ids)} rows are there and fit into the context")
    return found


def _candidates(
    variants: Variants,
    splits: dict[str, Dataset],
    prepared: Path,
    texts: Sequence[str],
    *,
    places: Sequence[int],
    needs: Needs,
) -> Iterator[tuple[HardPrompt, Given]]:
    """Every text in every place that it can have, with the validation rows as it makes them."""
    ids_of = hard_prompt_tokens(variants.tokenizer, texts, variants.model.frozen.config)
    for text, ids in zip(texts, ids_of, strict=True):
        yield HardPrompt(text, ids), Given(splits["validation"], ids)
        hard = HardPrompt(text, ids, SYSTEM_TURN)
        try:
            given = given_hard(variants, hard, splits["validation"], prepared, "validation")
            _check_room(variants, given, given_hard(variants, hard, splits["test"], prepared), places, needs)
        except InputError as refusal:
            _tell(f"the hard prompt is not tried as system turn: {refusal}")
        else:
            yield hard, given


def _check_room(variants: Variants, validation: Given, test: Given, places: Sequence[int], needs: Needs) -> None:
    """Refuse rows that do not fit into the context, of which the test rows are only looked at here."""
    longest = max(int(row_lengths(given.rows).max()) for given in (validation, test))
    question = max(map(len, test.questions(places)))
    if (needed := Needs(longest, question, needs.answer).tokens) > variants.context:
        raise InputError(f"a row or an answer then takes {needed} tokens, but the context is {variants.context}")


def _validation_loss(variants: Variants, given: Given, batch_size: int) -> float:
    losses = variants.losses({"hard": given}, batch_size, "validation rows")
    return float(losses["hard"].sum() / losses["tokens"].sum())


def _tell(text: str) -> None:
    if distributed.is_first():
        print(f"evaluate: {text}", flush=True)
