"""The training with other seeds: what `make sweep NAME=seeds` found, shown beside the interval without it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from softprompt.evaluation.recorded import Interval, Part
from softprompt.provenance.origin import Origin, load_origin
from softprompt.runtime.errors import InputError
from softprompt.runtime.outputs import write_json

SEEDS = Path("experiments/seeds.json")  # in git, since no stage makes it; {} before the first sweep


class Seeds(Part):
    """Of trainings that differ in nothing but `seed`.

    Attributes:
        of: what they have in common, see `trained_as`.
        commit: of the code that they ran with.
        tests: test loss of each seed, in nats per label token.
        interval: the mean of these losses, with its 95% interval by Student's t.
    """

    of: dict[str, Any]
    commit: str
    tests: dict[str, float]
    interval: Interval


def trained_as(origin: Origin) -> dict[str, Any]:
    """What a training depends on beside its seed and the code."""
    params = {key: value for key, value in origin.params.items() if key != "seed"}
    return {"base_sha256": origin.base_sha256, "rows_sha256": origin.rows_sha256, "params": params}


def write_seeds(origin: Origin, commit: str, tests: Mapping[str, float], interval: Mapping[str, float]) -> None:
    """Keep what a sweep found for the report."""
    found = {"of": trained_as(origin), "commit": commit, "tests": {**tests}, "interval": {**interval}}
    write_json(SEEDS, Seeds.model_validate(found).model_dump())


def read_seeds(adapter: Path) -> Seeds | None:
    """What was found of trainings like that of `adapter`; None without any.

    Raises:
        InputError: if the file is not what a sweep writes.
    """
    try:
        values = json.loads(SEEDS.read_text(encoding="utf-8"))
        seeds = Seeds.model_validate(values) if values else None
    except FileNotFoundError:
        return None
    except (ValidationError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise InputError(
            f"{SEEDS} is not what a sweep writes ({first}); write {{}} into it, or run: make sweep NAME=seeds"
        ) from None
    return seeds if seeds and seeds.of == trained_as(load_origin(adapter)) else None
