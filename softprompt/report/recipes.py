"""Other methods: what `python -m benchmarks.quality` found, where it is of the same model and rows."""

from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Annotated

from pydantic import Field

from softprompt.evaluation.recorded import Count, Part, as_checked
from softprompt.provenance.origin import Origin, load_origin
from softprompt.report.seeds import NONE
from softprompt.runtime.paths import RESULTS

QUALITY = RESULTS / "quality.json"  # in git, since no stage makes it; {}: nothing was measured
NAMES = {
    "base_model": "base model",
    "hard_prompt": "hard prompt",
    "few_shot_4": "few-shot prompt, 4 rows",
    "few_shot_7": "few-shot prompt, 7 rows",
    "prompt_tuning": "prompt tuning",
    "p_tuning": "P-tuning",
    "prefix_of_text": "prefix tuning, from a text",
    "prefix_tuning": "prefix tuning, from training rows",
    "lora": "LoRA",
}


class Measured(Part):
    """Of one training: tokens in front of a row, trained numbers, and test loss in nats per label token."""

    tokens: Count
    trained: Count
    test: float


class Quality(Part):
    """The file.

    Attributes:
        base_sha256, rows_sha256: what it was measured on, as in an adapter's origin.
        recipes: by name, then by seed.
    """

    base_sha256: str
    rows_sha256: str | None
    recipes: dict[str, Annotated[dict[str, Measured], Field(min_length=1)]]


@dataclass(frozen=True)
class Recipe:
    """A method with its defaults, or a baseline.

    Attributes:
        name: in words.
        tokens: in front of a row, as of the first seed.
        trained: how many numbers are, as of the first seed.
        losses: test loss of each seed, in nats per label token.
    """

    name: str
    tokens: int
    trained: int
    losses: list[float]

    @property
    def loss(self) -> float:
        """Their mean."""
        return mean(self.losses)


def measured_on(origin: Origin) -> dict[str, str | None]:
    """What losses have to have in common to be compared."""
    return {"base_sha256": origin.base_sha256, "rows_sha256": origin.rows_sha256}


def read_recipes(adapter: Path) -> list[Recipe]:
    """Those on the model and the rows of `adapter`, best last; none where the file is of others.

    Raises:
        InputError: if the file is not what the benchmark writes.
    """
    if not QUALITY.exists() or QUALITY.read_bytes().strip() == NONE:
        return []
    remedy = "write {} into it, or run: python -m benchmarks.quality"
    quality = Quality.model_validate(as_checked(QUALITY, Quality, remedy))
    if {"base_sha256": quality.base_sha256, "rows_sha256": quality.rows_sha256} != measured_on(load_origin(adapter)):
        return []
    found = []
    for name, of_seed in quality.recipes.items():
        first = next(iter(of_seed.values()))
        losses = [measured.test for measured in of_seed.values()]
        found.append(Recipe(NAMES.get(name, name), first.tokens, first.trained, losses))
    return sorted(found, key=lambda recipe: -recipe.loss)
