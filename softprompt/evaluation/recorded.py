"""Small metrics files as they are read again: what has to be in them, checked before anything is made of it."""

import json
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from softprompt.evaluation.names import baselines
from softprompt.runtime.errors import InputError
from softprompt.runtime.outputs import required
from softprompt.runtime.paths import RESULTS
from softprompt.runtime.text import is_text

METRICS, TRAIN_METRICS = RESULTS / "metrics.json", RESULTS / "train/metrics.json"
Count = Annotated[int, Field(ge=0)]
ABSENT: Any = None  # of what need not be there; where it is there, it is as the type says
Value = TypeVar("Value")
Gap = TypeVar("Gap")


class Part(BaseModel):
    """Strict types, finite numbers; what this version doesn't know is left alone."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class Interval(Part):
    """A value with its 95% interval."""

    mean: float
    low: float
    high: float

    @model_validator(mode="after")
    def is_ordered(self) -> Self:
        """Refuse ends in the wrong order."""
        if self.low > self.high:
            raise ValueError(f"low is {self.low}, above high, {self.high}")
        return self


class Loss(Part):
    """Of a variant, in nats per label token."""

    loss: float
    perplexity: float


class Compared(Part, Generic[Value, Gap]):
    """A value of each variant that was measured, and the tuned one's differences to the baselines."""

    base: Value
    hard: Value
    few_shot: Value = ABSENT
    tuned: Value
    tuned_minus_base: Gap
    tuned_minus_hard: Gap
    tuned_minus_few_shot: Gap = ABSENT


class Losses(Compared[Loss, Interval]):
    """Of all rows."""


class Slice(Compared[float, Interval | None]):
    """Losses of some of the test rows; without intervals where they are too few."""

    by: str
    slice: str
    rows: Count
    questions: Count
    tokens: Count


class Score(Compared[Interval, Interval]):
    """A score of the generated answers."""

    score: str
    better: str


class Answers(Part):
    """The generated answers."""

    rows: Count
    questions: Count
    bleu_tokenizer: str
    scores: list[Score]


class General(Losses):
    """Losses on out-of-domain text."""

    source: str
    blocks: Count
    tokens: Count


class Tried(Part):
    """A text in a place, and its loss on the validation rows."""

    text: str
    place: Literal["in front", "system turn"]
    validation: float


class HardPrompt(Part):
    """The hard prompt that the validation rows chose, and all that were tried."""

    text: str
    place: Literal["in front", "system turn"]
    tokens: Count
    tried: Annotated[list[Tried], Field(min_length=1)]


class FewShot(Part):
    """The training rows that were examples in the context."""

    examples: Count
    tokens: Count
    seed: Count
    example_ids: Annotated[list[str], Field(min_length=1)]


class VirtualTokens(Part):
    """Those of the tuned prompt; LoRA has none."""

    tokens: Count


class Prompts(Part):
    """What the variants put before the rows."""

    hard: HardPrompt
    few_shot: FewShot | None
    tuned: VirtualTokens


class Metrics(Losses):
    """results/metrics.json."""

    rows: Count
    questions: Count
    tokens: Count
    strongest: str
    verdict: Literal["helps", "no evidence", "harms"]
    prompts: Prompts
    general: General | None
    answers: Answers | None
    slices: list[Slice]

    @model_validator(mode="after")
    def is_whole(self) -> Self:
        """Refuse parts that speak of other variants than the whole does, or contradict it."""
        known = baselines(self.model_fields_set)
        losses = {name: getattr(self, name).loss for name in known}
        if losses.get(self.strongest) != min(losses.values()):
            raise ValueError("strongest: the baseline with the lowest loss")
        if (self.prompts.few_shot is None) == ("few_shot" in known):
            raise ValueError("prompts.few_shot: null without a few-shot prompt, and only then")
        scores = self.answers.scores if self.answers else []
        parts: list[Part] = [self, *self.slices, *scores, *([self.general] if self.general else [])]
        for part in parts:
            lacking = {*known, *(f"tuned_minus_{name}" for name in known)} - part.model_fields_set
            if lacking:
                raise ValueError(f"{type(part).__name__.lower()} has no {', '.join(sorted(lacking))}")
        return self


class TrainMetrics(Part):
    """results/train/metrics.json: the step that is kept, and its loss on the validation rows."""

    step: Count
    validation: float


def read_metrics() -> dict[str, Any]:
    """results/metrics.json.

    Raises:
        InputError: if it is missing, no JSON, or lacks what this version reads; names the command that makes it.
    """
    return checked(METRICS)


def checked(path: Path, model: type[Part] = Metrics, stage: str = "evaluate") -> dict[str, Any]:
    """The file at `path`, which has to be as `model` says; `stage` makes it.

    Raises:
        InputError: as `read_metrics`.
    """
    remedy = f"make it again with: dvc repro --force --single-item {stage}"
    return as_checked(required(path, stage), model, remedy)


def as_checked(path: Path, model: type[Part], remedy: str) -> dict[str, Any]:
    """The JSON file at `path`, which has to be as `model` says.

    Raises:
        InputError: if it is not, with `remedy`.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        model.model_validate(values)
        if not is_text(json.dumps(values, ensure_ascii=False)):
            raise ValueError("a text with an unpaired surrogate")
        return values
    except ValidationError as error:
        first = error.errors()[0]
        fault = ": ".join([".".join(map(str, first["loc"])), first["msg"]]).removeprefix(": ")
    except (ValueError, RecursionError) as error:
        fault = str(error)
    raise InputError(f"{path} can't be read ({fault}); {remedy}")
