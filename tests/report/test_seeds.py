"""Other seeds of the training on the page: those of the adapter that is shown, and no others."""

import dataclasses
import json
from pathlib import Path

import pytest

from softprompt.config.stage import run_stage
from softprompt.provenance.origin import Origin, write_origin
from softprompt.report.seeds import SEEDS, write_seeds
from stages.report import main
from tests.toy import ROOT

TESTS = {"1": 2.25, "2": 2.0, "7": 2.125}
INTERVAL = {"mean": 2.125, "low": 1.75, "high": 2.5}


@pytest.fixture
def origin(results: Path) -> Origin:
    """That of the adapter, as `train` writes it."""
    values = {field.name: f"some {field.name}" for field in dataclasses.fields(Origin)}
    params = {"seed": 1, "train.method": "prompt_tuning"}
    mappings = {"chat_template_kwargs": {}, "params": params, "code": {}, "versions": {}, "chosen": {}}
    values |= {**mappings, "demonstrations": [], "fold_system": False}
    known = {field.name for field in dataclasses.fields(Origin)}
    origin = Origin(**{name: value for name, value in values.items() if name in known})
    write_origin(Path("models/adapter"), origin)
    return origin


def page() -> str:
    run_stage(main)
    return " ".join(Path("results/report.html").read_text(encoding="utf-8").split())


def test_the_seeds_of_this_training_are_shown(origin: Origin) -> None:
    write_seeds(origin, "abc1234", TESTS, INTERVAL)
    text = page()
    assert "Trained with the seeds 1 (2.250), 2 (2.000) and 7 (2.125)" in text
    assert "<strong>2.125</strong> on average, with a 95% interval from 1.750 to 2.500 (Student's t, 3 seeds)" in text
    assert "at commit abc1234" in text


@pytest.mark.parametrize("other", ["rows_sha256", "base_sha256", "params"])
def test_those_of_another_training_are_not(origin: Origin, other: str) -> None:
    params = {**origin.params, "train.method": "lora"}
    write_seeds(dataclasses.replace(origin, **{other: params if other == "params" else "else"}), "a", TESTS, INTERVAL)
    assert "trains with other seeds, and this page then shows" in page()


def test_the_adapters_own_seed_does_not_matter(origin: Origin) -> None:
    write_seeds(dataclasses.replace(origin, params={**origin.params, "seed": 5}), "a", TESTS, INTERVAL)
    assert "Trained with the seeds" in page()


@pytest.mark.parametrize("text", ["[1]", "{", '{"tests": {"1": "low"}}'])
def test_what_no_sweep_has_written(origin: Origin, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    SEEDS.parent.mkdir(exist_ok=True)
    SEEDS.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as exit_:
        page()
    assert str(exit_.value.code).startswith(f"error: {SEEDS} is not what a sweep writes")


def test_the_repository_has_the_file() -> None:
    """A stage depends on it, and DVC refuses one that is missing."""
    assert isinstance(json.loads((ROOT / SEEDS).read_text(encoding="utf-8")), dict)
