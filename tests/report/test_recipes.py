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
    return {str(seed): {"tokens": tokens, "trained": trained, "test": test} for seed, test in enumerate(tests)}


RECIPES = {
    "base_model": losses(0, 0, 2.5, 2.5),
    "prompt_tuning": losses(20, 11_520, 2.0, 2.25),
    "lora": losses(0, 2_442_240, 1.5, 1.75),
    "one_of_later": losses(4, 12, 2.25, 2.5),
}


def page(origin: Origin, recipes: dict[str, Any], **changes: Any) -> str:
    found = {"base_sha256": origin.base_sha256, "rows_sha256": origin.rows_sha256, "recipes": recipes, **changes}
    QUALITY.write_text(json.dumps(found), encoding="utf-8")
    run_stage(main)
    return " ".join(Path("results/report.html").read_text(encoding="utf-8").split())


def test_methods_on_the_same_rows_are_shown_worst_first(origin: Origin) -> None:
    text = page(origin, RECIPES)
    places = [
        text.index(name) for name in ("base model</th><td>0</td><td>0</td><td>2.500", "one_of_later", "LoRA</th>")
    ]
    assert places == sorted(places)
    assert "<td>2,442,240</td><td>1.625</td><td>1.500, 1.750</td>" in text
    assert "<strong>LoRA has the lowest loss</strong>: 1.625, the best prompt 2.125" in text
    assert "make sweep NAME=method" not in text


def test_where_a_prompt_is_best_nothing_is_said_of_lora(origin: Origin) -> None:
    text = page(origin, {**RECIPES, "prefix_tuning": losses(64, 9, 1.0, 1.0)})
    assert "LoRA has the lowest" not in text


@pytest.mark.parametrize("other", ["base_sha256", "rows_sha256"])
def test_those_of_other_rows_are_not(origin: Origin, other: str) -> None:
    text = page(origin, RECIPES, **{other: "2" * 64})
    assert "Other methods" not in text
    assert "<code>make sweep NAME=method</code> compares the methods on these rows" in text


def test_nothing_was_measured(origin: Origin) -> None:
    QUALITY.write_text("{}\n", encoding="utf-8")
    run_stage(main)
    assert "Other methods" not in Path("results/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("recipes", [{"lora": {}}, {"lora": {"1": {"tokens": 0, "trained": 1, "test": "low"}}}, []])
def test_what_no_benchmark_has_written(origin: Origin, recipes: Any) -> None:
    with pytest.raises(SystemExit) as exit_:
        page(origin, recipes)
    assert str(exit_.value.code).startswith(f"error: {QUALITY} can't be read (recipes")
    assert "write {} into it, or run: python -m benchmarks.quality" in str(exit_.value.code)


def test_the_repository_has_the_file() -> None:
    """A stage depends on it, and DVC refuses one that is missing."""
    assert isinstance(json.loads((ROOT / QUALITY).read_text(encoding="utf-8")), dict)
