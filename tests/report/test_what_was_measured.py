"""The report of other methods and other variants, its first screen, and of results that were edited by hand."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from softprompt.config.stage import run_stage
from softprompt.evaluation import headline
from softprompt.report.charts import SMOOTHING, smoothed
from softprompt.report.filters import short_source
from softprompt.runtime.errors import InputError
from stages.report import main
from tests.report.project import make_metrics, make_rows, write_adapter, write_json, write_rows
from tests.report.test_report import MARKDOWN, report


def broken(place: tuple[str | int, ...], value: Any) -> str:
    """The good metrics with another value at a place, or without it."""
    metrics = part = make_metrics()
    for key in place[:-1]:
        part = part[key]  # type: ignore[assignment,index]
    del part[place[-1]]  # type: ignore[arg-type]
    if value is not None:
        part[place[-1]] = value  # type: ignore[index]
    return json.dumps(metrics)


def without_few_shot() -> dict[str, Any]:
    """The good metrics of a run without examples in the context."""

    def without(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: without(value) for name, value in part.items() if not name.endswith("few_shot")}
        return [without(one) for one in part] if isinstance(part, list) else part

    metrics = without(make_metrics())
    metrics["prompts"]["few_shot"] = None
    return metrics | {"strongest": "hard"}


BROKEN = {
    "no JSON": '{"base": ',
    "not finite": json.dumps(make_metrics()).replace("2.6", "NaN", 1),
    "a loss that is text": broken(("tuned", "loss"), "2.1"),
    "no loss": broken(("hard", "loss"), None),
    "no baseline": broken(("base",), None),
    "an interval without its end": broken(("tuned_minus_hard", "low"), None),
    "half a variant": broken(("tuned_minus_few_shot",), None),
    "a slice of another variant": broken(("slices", 0, "few_shot"), None),
    "null for a loss": json.dumps(make_metrics() | {"few_shot": None}),
    "an unknown verdict": broken(("verdict",), "surely"),
    "an unknown strongest": broken(("strongest",), "tuned"),
    "rows that are text": broken(("rows",), "24"),
    "no prompts": broken(("prompts", "hard"), None),
    "a score without an interval": broken(("answers", "scores", 0, "tuned"), 3.0),
    "no blocks": broken(("general", "blocks"), None),
    "a text that was tried without its loss": broken(("prompts", "hard", "tried"), [{}]),
    "a text that was tried and is none": broken(("prompts", "hard", "tried", 0, "text"), [1]),
    "nothing tried": broken(("prompts", "hard", "tried"), []),
    "no example": broken(("prompts", "few_shot", "example_ids"), []),
    "half a surrogate pair": broken(("prompts", "hard", "text"), "a\ud800"),
    "deeply nested": "[" * 100_000,
    "examples that were not scored": json.dumps(without_few_shot() | {"prompts": make_metrics()["prompts"]}),
    "scored without examples": json.dumps(make_metrics() | {"prompts": without_few_shot()["prompts"]}),
    "another strongest": broken(("strongest",), "hard"),
    "an interval from high to low": broken(("tuned_minus_hard", "low"), 3.0),
    "more than was scored": json.dumps(make_metrics()).replace("tuned_minus_base", "minus"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_metrics_edited_by_hand_are_one_line(results: Path, fault: str) -> None:
    Path("results/metrics.json").write_text(BROKEN[fault], encoding="utf-8")
    message = r"results/metrics\.json can't be read \([^\n]+\); make it again with: dvc repro [^\n]* evaluate"
    with pytest.raises(SystemExit, match=f"^error: {message}$"):
        run_stage(main)
    with pytest.raises(InputError, match=f"^{message}$"):
        headline.main()


def test_only_what_was_measured_is_shown(results: Path) -> None:
    write_json(results, "metrics", without_few_shot())
    write_rows(results, [{name: row[name] for name in row if "few_shot" not in name} for row in make_rows()])
    page = report()
    assert "few-shot" not in page.text.partition("Provenance")[0].replace("few_shot", "")
    assert "Against the hard prompt, the strongest of them" in page.text
    assert "few-shot" not in MARKDOWN.read_text(encoding="utf-8")


def test_predictions_of_other_variants_than_the_metrics_are_one_line(results: Path) -> None:
    write_rows(results, [{name: row[name] for name in row if name != "gain_over_few_shot"} for row in make_rows()])
    with pytest.raises(
        SystemExit, match=r"^error: results/predictions\.parquet can't be read \(no gain_over_few_shot\)"
    ):
        run_stage(main)


@pytest.mark.parametrize(
    ("method", "virtual_tokens", "said"),
    [
        ("LORA", None, ("Weights were trained by LoRA", "LoRA has no virtual tokens", "tuned model (LoRA)032")),
        ("PREFIX_TUNING", 4, ("4 virtual tokens were trained by prefix tuning", "keys and values of every layer")),
    ],
)
def test_what_each_method_trains(results: Path, method: str, virtual_tokens: int | None, said: tuple[str, ...]) -> None:
    write_adapter(results / "models/adapter", method, virtual_tokens)
    write_json(results, "virtual_tokens", {"tokens": []})
    text = report().text
    for part in said:
        assert part in text


def test_what_has_no_virtual_tokens_is_a_tuned_model(results: Path) -> None:
    write_adapter(results / "models/adapter", "LORA", None)
    write_json(results, "virtual_tokens", {"tokens": []})
    text = report().text.rpartition("Provenance")[0]
    for said in ("Tuned model, measured on", "The tuned model helps.", "What the tuned model does to other text"):
        assert said in text
    for page in (text, MARKDOWN.read_text(encoding="utf-8")):
        assert "tuned model" in page
        assert not re.search("(tuned|soft|same) prompt", page, re.I)


def test_a_damaged_adapter_is_one_line(results: Path) -> None:
    (results / "models/adapter/adapter_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(
        SystemExit, match=r"^error: models/adapter can't be read \([^\n]*\); repair it with: make repair$"
    ):
        run_stage(main)


def test_the_first_screen_says_what_was_done_and_what_came_out(results: Path) -> None:
    text = " ".join(report().text.split())
    assert "4 virtual tokens were trained by prompt tuning on 47 rows of" in text
    assert (
        "Against the few-shot prompt, the strongest of them, it changes the loss by \u22120.200 nats per token" in text
    )
    assert "not another seed of the training. make sweep NAME=seeds" in text
    assert "as system turn of the row: of 2 that were tried" in text
    assert "4 training rows in front of each row" in text


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("pypi://llm-x==1.2#llm_x/X-135M.Q4_1.gguf", "X-135M.Q4_1.gguf"),
        ("pypi://corpus==1.3.3#corpus/data/*.yml", "corpus==1.3.3"),
        ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B"),
        ("hf://owner/name#a/b.gguf", "b.gguf"),
        ("data/local/rows.jsonl", "data/local/rows.jsonl"),
    ],
)
def test_the_short_name_of_a_source(source: str, name: str) -> None:
    assert short_source(source) == name


def test_a_smoothed_curve_is_the_weighted_mean_of_its_past() -> None:
    assert [value for _, value in smoothed([(1, 3.0), (2, 3.0), (9, 3.0)])] == pytest.approx([3.0] * 3)
    weights = [SMOOTHING**2, SMOOTHING, 1]
    expected = sum(weight * value for weight, value in zip(weights, (1, 5, 2), strict=True)) / sum(weights)
    assert smoothed([(0, 1.0), (1, 5.0), (2, 2.0)])[-1] == (2, pytest.approx(expected))
