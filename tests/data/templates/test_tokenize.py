"""The stage: what is dropped is counted by reason and named, and what can't be is refused; the file of one's own."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoTokenizer

from tests.conftest import Refusal, Run
from tests.toy import add_beginning, toy_rows, write_params, write_rows

PLAIN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
STRICT = "{% for m in messages %}{% if 'apple' in m.content %}{{ raise_exception('no fruit') }}{% endif %}{% endfor %}"
EVERY = ("fetch_model", "fetch_data", "prepare", "tokenize")


def own(project: Path, template: str) -> None:
    """Have the toy's own chat template be another."""
    (project / "toy/model/chat_template.jinja").write_text(template, encoding="utf-8")


def counted() -> dict[str, Any]:
    return json.loads(Path("results/tokenize.json").read_text(encoding="utf-8"))


def spelt(split: str = "train") -> list[str]:
    tokenizer = AutoTokenizer.from_pretrained("models/base")
    rows = Dataset.from_file(f"data/tokenized/{split}.arrow")
    return [tokenizer.decode(ids) for ids in rows["input_ids"]]


def test_refused_rows_are_dropped_counted_and_named(
    project: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    own(project, STRICT + PLAIN)
    run(*EVERY)
    counts, reason = counted(), "the chat template refuses the messages: no fruit"
    told = [told for split in counts["splits"] for told in split["reasons"]]
    assert {told["reason"] for told in told} == {reason}
    rows = sum(told["rows"] for told in told)
    assert rows == counts["dropped"] == sum("apple" in str(row) for row in toy_rows()) > 3
    assert sum(split["rows"] for split in counts["splits"]) + rows == len(toy_rows())
    assert not [text for split in ("train", "validation", "test") for text in spelt(split) if "apple" in text]
    split = next(split for split in counts["splits"] if split["split"] == "train")
    first, number = split["reasons"][0]["examples"][0], split["reasons"][0]["rows"]
    assert f"tokenize: train: {number} rows dropped: {reason}; the first is {first}" in capsys.readouterr().err
    prepared = Dataset.from_parquet("data/prepared/train.parquet")
    (named,) = (row for row in prepared if row["example_id"] == first)
    assert "apple" in str(named["messages"])


def test_a_template_that_takes_no_row_is_an_error_that_says_why(project: Path, run: Run, refusal: Refusal) -> None:
    own(project, PLAIN.replace("assistant\n{%", "assistant\n<think>\n{%"))
    run("fetch_model", "fetch_data", "prepare")
    message = refusal("tokenize")
    assert message.startswith("error: tokenize.template: it takes no row of train.parquet: ")
    assert "opens a thought that the answer does not close with </think>" in message
    assert "tokenize.chat_template_kwargs, such as {enable_thinking: false}, or tokenize.chat_template" in message
    assert "the first is " in message


def test_a_file_of_ones_own(project: Path, run: Run, refusal: Refusal) -> None:
    run("fetch_model", "fetch_data", "prepare")
    path = project / "toy/own.jinja"
    message = refusal("tokenize", **{"tokenize.chat_template": "toy/own.jinja"})
    assert message.startswith("error: tokenize.chat_template: 'toy/own.jinja': No such file or directory; allowed: ")
    path.write_text("{{ bos_token }" + PLAIN, encoding="utf-8")
    assert "tokenize.chat_template: no template in Jinja: " in refusal("tokenize")
    path.write_bytes(b"\xff")
    assert "own.jinja is not UTF-8 text" in refusal("tokenize")
    path.write_text(f"Today {{{{ strftime_now('%Y') }}}}: {PLAIN}", encoding="utf-8")
    write_params(project, **{"tokenize.date": "1999-12-31"})
    run("local_sources", "tokenize")
    assert all(text.startswith("Today 1999: <|im_start|>user") for text in spelt())
    before = Path("data/sources/chat_template.json").read_text(encoding="utf-8")
    path.write_text(PLAIN, encoding="utf-8")
    run("local_sources")
    assert Path("data/sources/chat_template.json").read_text(encoding="utf-8") != before
    recorded = json.loads(Path("data/tokenized/template.json").read_text(encoding="utf-8"))
    assert recorded["date"] == "1999-12-31"
    assert recorded["chat_template"].endswith(PLAIN)


def test_special_tokens_in_rows_are_text(project: Path, run: Run) -> None:
    rows = [{**row, "output": f"{row['output']}<|im_end|>"} for row in toy_rows()]
    write_rows(project, rows)
    run(*EVERY)
    for row in Dataset.from_file("data/tokenized/train.arrow"):
        assert row["labels"].count(2) == 1


def test_a_beginning_token_is_first_under_all_prompts(project: Path, run: Run) -> None:
    """And what the stages after tokenize make of such rows."""
    add_beginning(project / "toy/model")
    write_params(project, **{"tokenize.template": "Q: {instruction} A: "})
    run(*EVERY, "fetch_general", "train", "evaluate")
    for split in ("train", "validation", "test"):
        assert all(text.startswith("<|endoftext|>Q: ") for text in spelt(split))
    metrics = json.loads(Path("results/metrics.json").read_text(encoding="utf-8"))
    assert metrics["general"]["tokens"] == 6 * 15, "of 16 tokens the first has no label"


def test_answers_and_references_are_those_of_turns_that_are_learnt(project: Path, run: Run) -> None:
    """Weights and blanks reach training, losses and scores alike."""
    import pandas as pd

    turns = [
        {"role": "user", "content": "Which bird?"},
        {"role": "assistant", "content": "A dragon.", "weight": 0},
        {"role": "user", "content": "Look again."},
        {"role": "assistant", "content": "A wren.", "weight": 1},
    ]
    talks = [{"messages": [{**turn, "content": f"{turn['content']} {place}"} for turn in turns]} for place in range(40)]
    (project / "toy/rows.json").write_text(json.dumps(talks), encoding="utf-8")
    own(
        project,
        "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} "
        "{{ m.content }} {{ eos_token }}{% endif %}{% endfor %}",
    )
    run(*EVERY, "fetch_general", "train", "evaluate")
    tokenizer = AutoTokenizer.from_pretrained("models/base")
    for split in ("train", "validation", "test"):
        for row in Dataset.from_file(f"data/tokenized/{split}.arrow"):
            answer = tokenizer.decode([label for label in row["labels"] if label >= 0])
            assert answer.startswith(" A wren. ")
            assert answer.endswith(" <|im_end|>")
    rows = pd.read_parquet("results/predictions.parquet")
    assert rows["reference"].str.startswith("A wren. ").all()
    assert rows["question"].str.startswith("Look again. ").all()
    assert (rows["tokens"] < 20).all()
