"""Other methods: what `python -m benchmarks.quality` found, where it is of the same model and rows."""

from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Annotated

from pydantic import Field

from softprompt.evaluation.recorded import Count, Part, as_checked
from softprompt.provenance.origin import load_origin
from softprompt.report.seeds import NONE
from softprompt.runtime.paths import RESULTS

QUALITY = RESULTS / "quality.json"  # in git, since no stage makes it; {}: nothing was measured
REMEDY = "mend it or take an earlier one from git; {} in it means that nothing was measured"
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
    """Of one training: tokens in front of a row, trained numbers, and losses in nats per label token."""

    tokens: Count
    trained: Count
    validation: float
    test: float


class Quality(Part):
    """The file.

    Attributes:
        base_sha256, rows_sha256: what it was measured on, as in an adapter's origin.
        epochs, max_steps, rows_a_step: how long each recipe was trained; max_steps counts, where it is not None.
        recipes: by name, then by seed.
    """

    base_sha256: str
    rows_sha256: str | None
    epochs: float
    max_steps: int | None
    rows_a_step: int
    recipes: dict[str, Annotated[dict[str, Measured], Field(min_length=1)]]


@dataclass(frozen=True)
class Recipe:
    """A method with its default initialisation and learning rate, or a baseline.

    Attributes:
        key: its name in the file.
        tokens: in front of a row, as of the first seed.
        trained: how many numbers are, as of the first seed.
        losses: test loss of each seed, in nats per label token, from lowest to highest.
    """

    key: str
    tokens: int
    trained: int
    losses: list[float]

    @property
    def name(self) -> str:
        """In words."""
        return NAMES.get(self.key, self.key)

    @property
    def loss(self) -> float:
        """The mean of `losses`."""
        return mean(self.losses)


@dataclass(frozen=True)
class Comparison:
    """The recipes, worst first, and how long each was trained, as in `Quality`."""

    epochs: float
    max_steps: int | None
    rows_a_step: int
    recipes: list[Recipe]

    def of(self, key: str) -> Recipe | None:
        """The recipe of this name, if it was measured."""
        return next((recipe for recipe in self.recipes if recipe.key == key), None)

    @property
    def beaten_by_lora(self) -> Recipe | None:
        """The best trained prompt, if each of its seeds lost to each of LoRA's."""
        lora = self.of("lora")
        prompts = [recipe for recipe in self.recipes if recipe.trained and recipe.tokens]
        if lora and prompts and lora.losses[-1] < prompts[-1].losses[0]:
            return prompts[-1]
        return None


def read_quality() -> Quality | None:
    """The file; None where nothing was measured.

    Raises:
        InputError: if it is not what the benchmark writes.
    """
    if not QUALITY.exists() or QUALITY.read_bytes().strip() == NONE:
        return None
    return Quality.model_validate(as_checked(QUALITY, Quality, REMEDY))


def read_recipes(adapter: Path) -> Comparison | None:
    """What was measured on the model and the rows of `adapter`; None without a trained recipe.

    Raises:
        InputError: as `read_quality`.
    """
    quality = read_quality()
    if quality is None:
        return None
    origin = load_origin(adapter)
    if (quality.base_sha256, quality.rows_sha256) != (origin.base_sha256, origin.rows_sha256):
        return None
    recipes = []
    for key, of_seed in quality.recipes.items():
        first = next(iter(of_seed.values()))
        losses = sorted(measured.test for measured in of_seed.values())
        recipes.append(Recipe(key, first.tokens, first.trained, losses))
    recipes.sort(key=lambda recipe: -recipe.loss)
    found = Comparison(quality.epochs, quality.max_steps, quality.rows_a_step, recipes)
    return found if any(recipe.trained for recipe in recipes) else None
