"""A tokenizer with a token that the model has no embedding of: accepted, until that token is used."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from softprompt.config import load_params
from softprompt.evaluation.variants import Variants
from softprompt.runtime.errors import InputError
from tests.conftest import Refusal, Run
from tests.toy import make_model, toy_rows, write_params, write_rows

UNKNOWN = "the token '<picture>' has id 357, but the model's 357 embeddings end with id 356; allowed: text without this"
BEFORE_TRAIN = ("fetch_model", "fetch_data", "fetch_general", "prepare", "tokenize")


@pytest.fixture(autouse=True)
def more_tokens(project: Path) -> None:
    add_token()


def add_token(*, special: bool = False) -> None:
    """A special token in a row is text, and no token."""
    tokenizer = AutoTokenizer.from_pretrained("toy/model")
    tokenizer.add_tokens(["<picture>"], special_tokens=special)
    tokenizer.save_pretrained("toy/model")


def test_it_is_accepted_and_refused_where_a_prompt_uses_the_token(refusal: Refusal, run: Run, project: Path) -> None:
    write_params(project, **{"train.init": "vocabulary"})
    run(*BEFORE_TRAIN)
    usual = load_params().evaluate.hard_prompt
    message = refusal("train", **{"evaluate.hard_prompt": "See <picture>."})
    assert message.startswith(f"error: evaluate.hard_prompt: {UNKNOWN}")
    write_params(project, **{"evaluate.hard_prompt": usual})
    run("train", "evaluate")
    assert Path("results/metrics.json").exists()
    variants = Variants.load(Path("models/base"), Path("models/adapter"), load_params())
    assert variants.question_ids([{"role": "user", "content": "What is fog?"}])
    with pytest.raises(InputError) as refused:
        variants.question_ids([{"role": "user", "content": "What is <picture>?"}])
    assert str(refused.value).startswith(f"the question: {UNKNOWN}")
    text = Path("toy/general.txt")
    text.write_text(text.read_text(encoding="utf-8").replace("sea", "<picture>"), encoding="utf-8")
    run("fetch_general")
    assert refusal("evaluate").startswith(f"error: general.source: {UNKNOWN}")


def test_a_row_that_holds_the_token_is_named(refusal: Refusal, run: Run, project: Path) -> None:
    rows = toy_rows()
    rows[5]["output"] = "A <picture> of it."
    write_rows(project, rows)
    run(*BEFORE_TRAIN[:-1])
    prepared = [row for path in Path("data/prepared").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    (held,) = [row["example_id"] for row in prepared if "<picture>" in str(row["messages"])]
    assert refusal("tokenize").startswith(f"error: the row {held}: {UNKNOWN}")


def test_a_row_that_spells_it_as_a_special_token_is_kept(run: Run, project: Path) -> None:
    add_token(special=True)
    rows = toy_rows()
    rows[5]["output"] = "A <picture> of it."
    write_rows(project, rows)
    run(*BEFORE_TRAIN)


def test_a_row_whose_token_is_truncated_is_kept(run: Run, project: Path) -> None:
    rows = toy_rows()
    rows[5]["output"] = "It is a thing. " * 20 + "<picture>"
    write_rows(project, rows)
    write_params(project, **{"tokenize.max_length": 100})
    run(*BEFORE_TRAIN)


def test_a_tokenizer_of_another_model_is_refused_with_the_rows(refusal: Refusal, run: Run, project: Path) -> None:
    make_model(project / "toy/small", vocab_size=100)
    write_params(project, **{"model.source": "toy/small"})
    run(*BEFORE_TRAIN[:-1])
    assert "but the model's 100 embeddings end with id 99" in refusal("tokenize")
