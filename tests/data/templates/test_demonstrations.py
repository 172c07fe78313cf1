"""Training rows as examples in the context, in the template's own turns."""

from pathlib import Path

import pandas as pd
import pytest
from transformers import AutoTokenizer

from softprompt.data.templates import Template
from softprompt.data.templates.demonstrations import demonstrations


def row(name: str, question: str, answer: str, system: str | None = None) -> dict:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"example_id": name, "messages": [{"role": "system", "content": system}] * bool(system) + turns, "input": ""}


ROWS = [row(f"id-{n}", f"Where is number {n}?", f"It is at {n}.", "Be brief." if n % 2 else None) for n in range(6)]
NAMES = [each["example_id"] for each in ROWS]


@pytest.fixture
def template(toy_model: Path) -> Template:
    return Template(AutoTokenizer.from_pretrained(toy_model), "chat", None)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    path = tmp_path / "train.parquet"
    pd.DataFrame(ROWS).to_parquet(path)
    return path


def test_they_are_one_conversation_of_the_template(template: Template, prepared: Path) -> None:
    found = demonstrations(template, NAMES, prepared, seed=0, room=10_000, count=3)
    assert len(set(found.example_ids)) == 3
    of_name = {each["example_id"]: each["messages"] for each in ROWS}
    first, *others = (of_name[name] for name in found.example_ids)
    turns = [*first, *(turn for row in others for turn in row if turn["role"] != "system")]
    text = template.tokenizer.apply_chat_template(turns, tokenize=False)
    assert template.tokenizer.decode(found.ids) == text


def test_as_many_as_fit_and_no_more_than_are_there(template: Template, prepared: Path) -> None:
    every = demonstrations(template, NAMES, prepared, seed=0, room=10_000)
    assert sorted(every.example_ids) == NAMES
    fewer = demonstrations(template, NAMES, prepared, seed=0, room=len(every.ids) - 1)
    assert 0 < len(fewer.example_ids) < len(NAMES)
    assert len(fewer.ids) < len(every.ids)
    assert demonstrations(template, NAMES, prepared, seed=0, room=5).ids == []


def test_another_seed_gives_others_and_more_rows_move_few(template: Template, prepared: Path) -> None:
    def chosen(names: list[str], seed: int) -> list[str]:
        return demonstrations(template, names, prepared, seed=seed, room=10_000, count=2).example_ids

    assert len({tuple(chosen(NAMES, seed)) for seed in range(5)}) > 1
    first, _ = chosen(NAMES, 0)
    assert first in chosen(NAMES[::-1], 0)
    assert chosen([name for name in NAMES if name != first], 0)[0] != first


def test_with_a_literal_template_the_end_token_divides_them(toy_model: Path, prepared: Path) -> None:
    literal = Template(AutoTokenizer.from_pretrained(toy_model), "Q: {instruction} A: ", None, fold_system=True)
    found = demonstrations(literal, NAMES, prepared, seed=0, room=10_000, count=2)
    assert literal.tokenizer.decode(found.ids).count("<|im_end|>") == 2


def test_a_literal_template_has_each_rows_input_in_its_place(toy_model: Path, tmp_path: Path) -> None:
    literal = Template(AutoTokenizer.from_pretrained(toy_model), "I: {instruction} | X: {input} | A: ", None)
    rows = [row("a", "Translate.\nHello", "Bonjour"), row("b", "Spell.\nAb", "A, b")]
    rows = [{**one, "input": one["messages"][0]["content"].split("\n")[1]} for one in rows]
    pd.DataFrame(rows).to_parquet(tmp_path / "rows.parquet")
    found = demonstrations(literal, ["a", "b"], tmp_path / "rows.parquet", seed=0, room=10_000)
    of_name = {one["example_id"]: one for one in rows}
    trained = [encoded.input_ids for encoded in literal.encode([of_name[name] for name in found.example_ids], None)]
    assert found.ids == [token for ids in trained for token in ids], "as in training"


def test_a_row_with_an_answer_that_is_not_learnt_is_no_example(template: Template, tmp_path: Path) -> None:
    good, bad = row("a", "One?", "1."), row("b", "Two?", "BAD")
    bad["messages"] = [{**turn, "weight": 0.0} for turn in bad["messages"]]
    pd.DataFrame([good, bad]).to_parquet(tmp_path / "rows.parquet")
    assert demonstrations(template, ["a", "b"], tmp_path / "rows.parquet", seed=0, room=9999).example_ids == ["a"]


def test_a_row_that_ends_with_a_question_ends_with_its_last_answer(template: Template, tmp_path: Path) -> None:
    open_end = row("a", "One?", "1.")
    open_end["messages"].append({"role": "user", "content": "And two?"})
    pd.DataFrame([open_end]).to_parquet(tmp_path / "rows.parquet")
    found = demonstrations(template, ["a"], tmp_path / "rows.parquet", seed=0, room=10_000)
    assert "And two?" not in template.tokenizer.decode(found.ids)
