"""The baselines as the evaluation has them: its hard prompt in its place, and its examples in the context."""

from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from softprompt.config import Params
from softprompt.evaluation.recorded import METRICS, read_metrics
from softprompt.runtime.errors import InputError
from softprompt.runtime.outputs import verified
from softprompt.runtime.paths import PREPARED

if TYPE_CHECKING:
    from datasets import Dataset

    from softprompt.evaluation.variants import Given, Variants


FIRST_TEXT = "the hard prompt is the first text of evaluate.hard_prompt, in front of the row"
NO_EXAMPLES = "there is no few-shot prompt"


def with_evaluated(variants: "Variants", params: Params) -> "Variants":
    """`variants` with the baselines of results/metrics.json, where they are of the same hard prompts.

    Without the file, or with other texts in params.yaml, the first text is in front of the row; without the file, or
    the rows that it took as examples, there is no few-shot prompt. Either is said on standard error.

    Raises:
        InputError: if the file is damaged, or the rows of the examples are missing.
    """
    import pyarrow.parquet as pq

    from softprompt.data.templates.demonstrations import demonstrations
    from softprompt.evaluation.hard_prompt import HardPrompt
    from softprompt.evaluation.variants import UNLIMITED

    if not METRICS.is_file():
        _note(f"there is no {METRICS}: {FIRST_TEXT}, and {NO_EXAMPLES}")
        return variants
    prompts = read_metrics()["prompts"]
    hard, examples = prompts["hard"], prompts["few_shot"]
    if {one["text"] for one in hard["tried"]} == set(params.evaluate.hard_prompts):
        ids = variants.tokenizer(hard["text"], add_special_tokens=False)["input_ids"]
        variants = replace(variants, hard=HardPrompt(hard["text"], ids, hard["place"]))
    else:
        _note(f"{METRICS} is of other hard prompts than params.yaml: {FIRST_TEXT}")
    if examples is None:
        return variants
    rows, names = verified(PREPARED, "prepare") / "train.parquet", examples["example_ids"]
    if not set(names) <= set(pq.read_table(rows, columns=["example_id"])["example_id"].to_pylist()):
        _note(f"{METRICS} is of other rows than {PREPARED}: {NO_EXAMPLES}")
        return variants
    found = demonstrations(variants.template, names, rows, seed=examples["seed"], room=UNLIMITED, count=len(names))
    return replace(variants, few_shot=found)


def baselines_of(variants: "Variants", test: "Dataset") -> dict[str, "Given"]:
    """What each baseline is given of the test rows.

    Raises:
        InputError: if the rows are missing, or the template takes no hard prompt as system turn.
    """
    from softprompt.evaluation.baselines import given_hard
    from softprompt.evaluation.hard_prompt import SYSTEM_TURN

    given = variants.in_front_of(test)
    del given["tuned"]
    if variants.hard.place == SYSTEM_TURN:
        given["hard"] = given_hard(variants, variants.hard, test, verified(PREPARED, "prepare"))
    return given


def check_few_shot(variants: "Variants") -> None:
    """Refuse where the evaluation had no few-shot prompt.

    Raises:
        InputError: with what makes one.
    """
    if variants.few_shot is None:
        raise InputError(
            f"--few-shot: {METRICS} has no few-shot prompt of these rows; set evaluate.few_shot in params.yaml to a "
            "number above 0 and run dvc repro evaluate"
        )


def _note(text: str) -> None:
    typer.echo(f"note: {text}; make it again with: dvc repro evaluate", err=True)
