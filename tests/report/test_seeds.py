"""Other seeds of the training on the page: those of the adapter that is shown, and no others."""

import dataclasses
import json
from pathlib import Path

import pytest

from softprompt.config.stage import run_stage
from softprompt.provenance.origin import Origin
from softprompt.report.seeds import SEEDS, trained_as, write_seeds
from stages.report import main
from tests.toy import ROOT

TESTS = {"1": 2.25, "2": 2.0, "7": 2.125}
INTERVAL = {"mean": 2.125, "low": 1.75, "high": 2.5}


def page() -> str:
    run_stage(main)
    return " ".join(Path("results/report.html").read_text(encoding="utf-8").split())


def test_the_seeds_of_this_training_are_shown(origin: Origin) -> None:
    write_seeds(trained_as(origin), "abc1234", TESTS, INTERVAL)
    text = page()
    assert "Trained with the seeds 1 (2.250), 2 (2.000) and 7 (2.125)" in text
    assert "<strong>2.125</strong> on average, with a 95% interval from 1.750 to 2.500 (Student's t, 3 seeds)" in text
    assert "at commit abc1234" in text


@pytest.mark.parametrize("other", ["rows_sha256", "base_sha256", "params"])
def test_those_of_another_training_are_not(origin: Origin, other: str) -> None:
    params = {**origin.params, "train.method": "lora"}
    replaced = dataclasses.replace(origin, **{other: params if other == "params" else "else"})
    write_seeds(trained_as(replaced), "a", TESTS, INTERVAL)
    assert "trains with other seeds, and this page then shows" in page()


def test_the_adapters_own_seed_does_not_matter(origin: Origin) -> None:
    write_seeds(trained_as(dataclasses.replace(origin, params={**origin.params, "seed": 5})), "a", TESTS, INTERVAL)
    assert "Trained with the seeds" in page()


FOUND = {"of": {}, "commit": "a", "tests": TESTS, "interval": INTERVAL}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[1]", "dictionary"),
        ("{", "Expecting property name"),
        ("[" * 100_000, "recursion"),
        (json.dumps({**FOUND, "tests": {"1": 2.0}}), "tests: "),
        (json.dumps({**FOUND, "tests": {"1": 2.0, "2": "low"}}), "tests.2: "),
        (json.dumps({**FOUND, "interval": {**INTERVAL, "low": 3.0}}), "low is 3.0, above high, 2.5"),
    ],
    ids=["a list", "half", "deep", "one seed", "a text", "ends"],
)
def test_what_no_sweep_has_written(origin: Origin, text: str, fault: str) -> None:
    SEEDS.parent.mkdir(exist_ok=True)
    SEEDS.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as exit_:
        page()
    said = str(exit_.value.code)
    assert said.startswith(f"error: {SEEDS} can't be read (")
    assert fault in said


def test_the_repository_has_the_file() -> None:
    """A stage depends on it, and DVC refuses one that is missing."""
    assert isinstance(json.loads((ROOT / SEEDS).read_text(encoding="utf-8")), dict)
