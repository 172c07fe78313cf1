"""The training with other seeds: what `make sweep NAME=seeds` found, shown beside the interval without it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from softprompt.evaluation.recorded import Interval, Part, as_checked
from softprompt.provenance.origin import Origin, load_origin
from softprompt.runtime.outputs import write_json

SEEDS = Path("experiments/seeds.json")  # in git, since no stage makes it; {} before the first sweep
NONE = b"{}"


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
    tests: Annotated[dict[str, float], Field(min_length=2)]
    interval: Interval


def trained_as(origin: Origin) -> dict[str, Any]:
    """What a training depends on beside its seed and the code."""
    params = {key: value for key, value in origin.params.items() if key != "seed"}
    return {"base_sha256": origin.base_sha256, "rows_sha256": origin.rows_sha256, "params": params}


def write_seeds(
    trained: dict[str, Any], commit: str, tests: Mapping[str, float], interval: Mapping[str, float]
) -> None:
    """Keep what a sweep found for the report."""
    found = Seeds.model_validate({"of": trained, "commit": commit, "tests": {**tests}, "interval": {**interval}})
    write_json(SEEDS, found.model_dump())


def read_seeds(adapter: Path) -> Seeds | None:
    """What was found of trainings like that of `adapter`; None without any.

    Raises:
        InputError: if the file is not what a sweep writes.
    """
    if not SEEDS.exists() or SEEDS.read_bytes().strip() == NONE:
        return None
    remedy = "write {} into it, or run: make sweep NAME=seeds"
    seeds = Seeds.model_validate(as_checked(SEEDS, Seeds, remedy))
    return seeds if seeds.of == trained_as(load_origin(adapter)) else None
