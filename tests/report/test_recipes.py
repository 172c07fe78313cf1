"""Other methods on the page: those that were measured on the adapter's model and rows, and no others."""

import json
from pathlib import Path
from typing import Any

import pytest

from softprompt.config.stage import run_stage
from softprompt.provenance.origin import Origin
from softprompt.report.recipes import QUALITY
from stages.report import main
from tests.toy import ROOT


def losses(tokens: int, trained: int, *tests: float) -> dict[str, dict[str, Any]]:
    of_seed = [{"tokens": tokens, "trained": trained, "validation": 3.0, "test": test} for test in tests]
    return {str(seed): measured for seed, measured in enumerate(of_seed)}


BASE, LORA = losses(0, 0, 2.5, 2.5), losses(0, 2_442_240, 1.75, 1.5)
RECIPES = {
    "base_model": BASE,
    "prompt_tuning": losses(20, 11_520, 2.0, 2.25),
    "lora": LORA,
    "one_of_<later>": losses(4, 12, 2.25, 2.5),
}
LENGTH = {"epochs": 0.7, "max_steps": None, "rows_a_step": 16}


def page(origin: Origin, recipes: dict[str, Any], **changes: Any) -> str:
    of = {"base_sha256": origin.base_sha256, "rows_sha256": origin.rows_sha256}
    QUALITY.write_text(json.dumps({**of, **LENGTH, "recipes": recipes, **changes}), encoding="utf-8")
    run_stage(main)
    return " ".join(Path("results/report.html").read_text(encoding="utf-8").split())


def test_methods_on_the_same_rows_are_shown_worst_first(origin: Origin) -> None:
    text = page(origin, RECIPES)
    shown = ("base model</th><td>0</td><td>0</td><td>2.500", "one_of_&lt;later&gt;", "LoRA</th>")
    places = [text.index(name) for name in shown]
    assert places == sorted(places)
    assert "<td>2,442,240</td><td>1.625</td><td>1.500, 1.750</td>" in text
    assert "was trained for 0.7 epochs with 16 rows a step" in text
    assert "was trained for 30 steps with" in page(origin, RECIPES, max_steps=30)
    assert "make sweep NAME=method" not in text


def test_lora_is_better_with_every_seed(origin: Origin) -> None:
    text = page(origin, RECIPES)
    assert (
        "<strong>LoRA is better than every prompt</strong>, with every seed: 1.625 on average, prompt tuning 2.125."
        in text
    )
    assert "That of prompt tuning takes 46 kB." in text


@pytest.mark.parametrize(
    "recipes",
    [
        {"base_model": BASE, "lora": LORA},
        {"lora": LORA},
        {"prompt_tuning": losses(20, 9, 2.0)},
        {**RECIPES, "prefix_tuning": losses(64, 9, 1.0, 1.0)},
        {**RECIPES, "prefix_tuning": losses(64, 9, 1.74, 2.0)},
    ],
    ids=["no prompt", "alone", "not measured", "worse", "with some seeds"],
)
def test_otherwise_nothing_is_said_of_it(origin: Origin, recipes: dict[str, Any]) -> None:
    text = page(origin, recipes)
    assert "Other methods on these rows" in text
    assert "LoRA is better" not in text


@pytest.mark.parametrize("other", ["base_sha256", "rows_sha256"])
def test_those_of_other_rows_are_not(origin: Origin, other: str) -> None:
    text = page(origin, RECIPES, **{other: "2" * 64})
    assert "Other methods" not in text
    assert "<code>make sweep NAME=method</code> compares the methods on these rows" in text


def test_nothing_was_measured(origin: Origin) -> None:
    QUALITY.write_text("{}\n", encoding="utf-8")
    run_stage(main)
    assert "Other methods" not in Path("results/report.html").read_text(encoding="utf-8")


def test_what_is_not_trained_is_no_method(origin: Origin) -> None:
    text = page(origin, {"base_model": BASE})
    assert "Other methods" not in text
    assert "make sweep NAME=method" in text


@pytest.mark.parametrize(
    "recipes", [{"lora": {}}, {"lora": {"1": {"tokens": 0, "trained": 1, "test": "low", "validation": 1.0}}}, []]
)
def test_what_no_benchmark_has_written(origin: Origin, recipes: Any) -> None:
    with pytest.raises(SystemExit) as exit_:
        page(origin, recipes)
    assert str(exit_.value.code).startswith(f"error: {QUALITY} can't be read (recipes")
    assert "mend it or take an earlier one from git" in str(exit_.value.code)


def test_the_repository_has_the_file() -> None:
    """A stage depends on it, and DVC refuses one that is missing."""
    assert isinstance(json.loads((ROOT / QUALITY).read_text(encoding="utf-8")), dict)
