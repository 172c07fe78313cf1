"""The baselines: examples in the context and the hard prompt in each place, against plain forwards; and the choice."""

import gc
import json
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from softprompt.config import load_params
from softprompt.data.templates import Template
from softprompt.evaluation.baselines import Comparison, Needs, comparison
from softprompt.evaluation.hard_prompt import IN_FRONT, SYSTEM_TURN, rows_with_system_turn, with_system_turn
from softprompt.evaluation.variants import Variants
from softprompt.runtime.errors import InputError
from tests.conftest import Run
from tests.evaluation.plain import (
    examples,
    in_system_turn,
    loss_of_answer,
    messages,
    prompts,
    question_and_answer,
    tokenized,
)
from tests.toy import write_params

TEXTS = ["Answer in one short sentence.", "Say which thing it is, and which kind.", "Be an eel."]
PREPARED = Path("data/prepared")
SILENT = (  # about system turns
    "{% for turn in messages if turn['role'] != 'system' %}"
    "<|im_start|>{{ turn['role'] }}\n{{ turn['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def variants(finished: Path) -> Iterator[Variants]:
    """Those of the toy, in its folder, loaded once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(finished)
        yield Variants.load(Path("models/base"), Path("models/adapter"), load_params())


def compared(variants: Variants, needs: Needs, **settings: object) -> Comparison:
    splits = {split: tokenized(split) for split in ("train", "validation", "test")}
    changed = load_params().evaluate.model_copy(update=settings)
    return comparison(variants, splits, PREPARED, changed, places=[0, 1], needs=needs)


SMALL = Needs(row=128, question=40, answer=8)


@pytest.mark.usefixtures("variants")
def test_the_loss_of_few_shot_is_that_of_rows_behind_its_tokens() -> None:
    tokenizer = AutoTokenizer.from_pretrained("models/base")
    base = AutoModelForCausalLM.from_pretrained("models/base")
    ahead, rows = examples(tokenizer), pd.read_parquet("results/predictions.parquet")
    assert prompts()["few_shot"]["tokens"] == len(ahead)
    assert len(prompts()["few_shot"]["example_ids"]) == prompts()["few_shot"]["examples"] == 4
    for row, loss in zip(tokenized("test"), rows["few_shot_loss"] * rows["tokens"], strict=True):
        question, answer = question_and_answer(row)
        assert loss == pytest.approx(loss_of_answer(base, ahead + question, answer), rel=1e-5)


@pytest.mark.usefixtures("variants")
def test_each_place_of_the_hard_prompt_has_the_loss_of_a_plain_forward() -> None:
    tokenizer = AutoTokenizer.from_pretrained("models/base")
    base, of_row = AutoModelForCausalLM.from_pretrained("models/base"), messages("validation")
    text = load_params().evaluate.hard_prompts[0]
    total, tokens = {IN_FRONT: 0.0, SYSTEM_TURN: 0.0}, 0
    for row in tokenized("validation"):
        question, answer = question_and_answer(row)
        asked = next(turn["content"] for turn in of_row[row["example_id"]] if turn["role"] == "user")
        in_front = tokenizer(text, add_special_tokens=False)["input_ids"] + question
        for place, before in ((IN_FRONT, in_front), (SYSTEM_TURN, in_system_turn(tokenizer, text, asked))):
            total[place] += loss_of_answer(base, before, answer)
        tokens += len(answer)
    tried = {one["place"]: one["validation"] for one in prompts()["hard"]["tried"]}
    assert tried == pytest.approx({place: loss / tokens for place, loss in total.items()}, rel=1e-5)


def test_validation_chooses_among_all_texts_and_places(variants: Variants) -> None:
    found = compared(variants, SMALL, hard_prompt=TEXTS)
    hard = found.prompts["hard"]
    assert [(one["text"], one["place"]) for one in hard["tried"]] == [
        (text, place) for text in TEXTS for place in (IN_FRONT, SYSTEM_TURN)
    ]
    best = min(hard["tried"], key=lambda one: one["validation"])
    assert (hard["text"], hard["place"]) == (best["text"], best["place"])
    assert (found.variants.hard.text, found.variants.hard.place) == (best["text"], best["place"])
    rows = tokenized("test")
    for variant, given in found.test.items():
        assert len(given.rows) == len(rows)
        for row, own in zip(given.rows, rows, strict=True):
            assert question_and_answer(row)[1] == question_and_answer(own)[1], variant
    again = compared(variants, SMALL, hard_prompt=[best["text"], best["text"]])
    assert again.prompts["hard"]["place"] == best["place"]


def test_one_test_split_at_a_time_is_rendered(variants: Variants, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered, held = list[weakref.ref](), list[int]()

    def render(rows: Dataset, prepared: Path, *arguments: Any) -> Dataset:
        found = rows_with_system_turn(rows, prepared, *arguments)
        if prepared.name == "test.parquet":
            gc.collect()
            held.append(sum(split() is not None for split in rendered))
            rendered.append(weakref.ref(found))
        return found

    monkeypatch.setattr("softprompt.evaluation.baselines.rows_with_system_turn", render)
    place = compared(variants, SMALL, hard_prompt=TEXTS).variants.hard.place
    assert held == [0] * (len(TEXTS) + (place == SYSTEM_TURN))


def test_what_the_context_has_no_room_for(variants: Variants, capsys: pytest.CaptureFixture[str]) -> None:
    whole = compared(variants, SMALL).variants.few_shot
    assert whole
    context = variants.context
    fewer = compared(variants, replace(SMALL, row=context - len(whole.ids) + 1)).prompts["few_shot"]
    assert 0 < fewer["examples"] < 4
    assert f"evaluate.few_shot is 4: {fewer['examples']} rows are there and fit" in capsys.readouterr().out
    none = compared(variants, replace(SMALL, row=context - 5))
    assert none.prompts["few_shot"] is none.variants.few_shot is None
    assert list(none.test) == ["base", "hard", "tuned"]
    assert "no row fits into the context; no few-shot prompt is evaluated" in capsys.readouterr().out
    long = compared(variants, replace(SMALL, answer=context - 60), hard_prompt="One two three. " * 5)
    assert [one["place"] for one in long.prompts["hard"]["tried"]] == [IN_FRONT]
    assert "not tried as system turn: a row or an answer then takes" in capsys.readouterr().out


def test_another_seed_takes_other_rows(variants: Variants) -> None:
    names = {
        tuple(compared(variants, SMALL, few_shot=2, few_shot_seed=seed).prompts["few_shot"]["example_ids"])
        for seed in (0, 1)
    }
    assert len(names) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"template": "Q: {instruction} A: "}, "no place for the rows' system turns"),
        ({"template": "chat", "chat_template": SILENT}, "writes no system turn"),
    ],
)
def test_a_template_without_a_place_for_it(variants: Variants, settings: dict, message: str) -> None:
    template = Template(variants.tokenizer, system=None, **settings)
    rows = tokenized("test")
    if "chat_template" in settings:  # rows as it writes them itself
        given = [{"messages": turns, "input": ""} for turns in messages("test").values()]
        encoded = list(template.encode(given, 128))
        rows = rows.remove_columns(["input_ids", "labels"])
        for name in ("input_ids", "labels"):
            rows = rows.add_column(name, [getattr(one, name) for one in encoded])
    with pytest.raises(InputError, match=message):
        rows_with_system_turn(rows, PREPARED / "test.parquet", template, "Be brief.")


def test_it_follows_the_system_turn_that_a_row_has() -> None:
    question = {"role": "user", "content": "Why?"}
    own = [{"role": "system", "content": "You are an eel."}, question]
    both = {"role": "system", "content": "You are an eel.\n\nBe brief."}
    assert with_system_turn(own, "Be brief.", "Be kind.") == [both, question]
    usual = {"role": "system", "content": "Be kind.\n\nBe brief."}
    assert with_system_turn([question], "Be brief.", "Be kind.") == [usual, question]
    assert with_system_turn([question], "Be brief.", None) == [{"role": "system", "content": "Be brief."}, question]


def test_without_examples_nothing_speaks_of_them(
    finished_project: Path, run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    write_params(finished_project, **{"evaluate.few_shot": 0, "evaluate.hard_prompt": TEXTS[:2]})
    run("evaluate", "report")
    assert "evaluate.few_shot is 0: no few-shot prompt is evaluated" in capfd.readouterr().out
    metrics = json.loads(Path("results/metrics.json").read_text(encoding="utf-8"))
    assert metrics["prompts"]["few_shot"] is None
    assert len(metrics["prompts"]["hard"]["tried"]) == 4
    assert metrics["strongest"] in ("base", "hard")
    for part in (metrics, metrics["general"], metrics["slices"][0], metrics["answers"]["scores"][0]):
        assert not [name for name in part if "few_shot" in name]
    assert not [name for name in pd.read_parquet("results/predictions.parquet") if "few_shot" in name]
    assert "few-shot" not in Path("results/report.md").read_text(encoding="utf-8")
