"""Numbers and answers of the stage `evaluate` are plain PEFT's."""

import json
import math
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from softprompt.config import load_params
from softprompt.evaluation.names import NAMES
from softprompt.evaluation.sample import longest_answer
from softprompt.evaluation.variants import Variants
from tests.conftest import Run
from tests.evaluation.plain import examples, hard_question
from tests.toy import write_params


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"train.method": "p_tuning"},
        {"train.method": "p_tuning", "train.encoder": "lstm"},
        {"train.method": "prefix_tuning", "train.init": "text"},
        {"train.method": "prefix_tuning", "train.init": "zero"},
        {"train.method": "prefix_tuning", "train.init": "random"},
    ],
    ids=lambda changes: " ".join(changes.values()) or "default",
)
def test_the_adapter_in_plain_peft_has_the_loss_that_metrics_say(
    finished_project: Path, run: Run, changes: dict[str, str]
) -> None:
    """Row by row, with PEFT's and transformers' own loss and nothing of ours."""
    if changes:
        write_params(finished_project, **changes)
        run("train", "evaluate")
    metrics = json.loads(Path("results/metrics.json").read_text(encoding="utf-8"))
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("models/base"), "models/adapter")
    test = Dataset.from_file("data/tokenized/test.arrow").with_format("torch", ["input_ids", "labels"])
    total = {"tuned": 0.0, "base": 0.0}
    for row in test:
        batch = {"input_ids": row["input_ids"][None], "labels": row["labels"][None]}
        count = int((row["labels"] >= 0).sum())
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
        with torch.no_grad():
            total["tuned"] += model(**batch).loss.item() * count
            with model.disable_adapter():
                total["base"] += model(**batch).loss.item() * count
    for variant, loss in total.items():
        assert loss / metrics["tokens"] == pytest.approx(metrics[variant]["loss"], rel=1e-5)


def test_metrics_agree_with_the_losses_of_each_row(finished: Path) -> None:
    metrics = json.loads((finished / "results/metrics.json").read_text(encoding="utf-8"))
    rows = pd.read_parquet(finished / "results/predictions.parquet")
    gaps = ["tuned_minus_base", "tuned_minus_hard", "tuned_minus_few_shot"]
    assert list(metrics)[:7] == ["base", "hard", "few_shot", "tuned", *gaps]
    for variant in NAMES:
        loss = (rows[f"{variant}_loss"] * rows["tokens"]).sum() / rows["tokens"].sum()
        assert metrics[variant] == {"loss": pytest.approx(loss), "perplexity": pytest.approx(math.exp(loss))}
    assert metrics["tuned_minus_hard"]["mean"] == metrics["tuned"]["loss"] - metrics["hard"]["loss"]
    assert metrics["verdict"] in ("helps", "no evidence", "harms")
    shown = json.loads((finished / "results/headline.json").read_text(encoding="utf-8"))
    assert shown["tuned"] == metrics["tuned"]["loss"]


def test_predictions_have_every_row_and_the_sample_its_answers(finished: Path) -> None:
    rows = pd.read_parquet(finished / "results/predictions.parquet")
    test = Dataset.from_file(str(finished / "data/tokenized/test.arrow"))
    prepared = pq.read_table(finished / "data/prepared/test.parquet").to_pylist()
    assert rows["example_id"].tolist() == list(test["example_id"])
    assert rows["question"].tolist() == [row["messages"][0]["content"] for row in prepared]
    assert rows["reference"].tolist() == [row["messages"][1]["content"] for row in prepared]
    assert (rows["gain_over_hard"] == rows["hard_loss"] - rows["tuned_loss"]).all()
    answered = rows["tuned_answer"].notna()
    assert answered.sum() == 5
    for variant in NAMES:
        assert (rows[f"{variant}_answer"].notna() == answered).all()
        assert (rows.loc[answered, f"{variant}_answer_tokens"] <= 8).all()
    lines = [json.loads(line) for line in (finished / "results/predictions.jsonl").read_text("utf-8").splitlines()]
    assert [line["example_id"] for line in lines] == rows["example_id"].tolist()
    assert list(lines[0]) == list(rows.columns)


def test_rows_and_blocks_are_at_most_and_an_answer_as_long_as_the_datas(
    finished_project: Path, run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    many = {"evaluate.rows": 1000, "general.blocks": 1000, "evaluate.generate.max_new_tokens": None}
    write_params(finished_project, **many)
    run("evaluate")
    metrics = json.loads(Path("results/metrics.json").read_text(encoding="utf-8"))
    rows = pd.read_parquet("results/predictions.parquet")
    assert rows["tuned_answer"].notna().all()
    assert metrics["answers"]["rows"] == len(rows) == metrics["rows"]
    printed = capfd.readouterr().out
    assert f"evaluate: evaluate.rows is 1000: all {len(rows)} rows of the test split are answered" in printed
    blocks = metrics["general"]["blocks"]
    assert f"evaluate: general.blocks is 1000: all {blocks} blocks that the text makes are scored" in printed
    known = [row for split in ("train", "validation") for row in Dataset.from_file(f"data/tokenized/{split}.arrow")]
    longest = max(sum(label >= 0 for label in row["labels"]) for row in known)
    assert metrics["answers"]["max_new_tokens"] == longest
    assert rows["tuned_answer_tokens"].max() == longest > 8


def test_an_answer_is_no_longer_than_the_context_leaves(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    variants = Variants.load(Path("models/base"), Path("models/adapter"), load_params())
    assert variants.room_after(100) == 512 - max(4, len(variants.hard.ids)) - 100


def test_the_longest_answer_of_a_conversation_is_a_turn(tmp_path: Path) -> None:
    labels = [[-100, 1, 2, -100, 3, 4, 5], [-100, -100, 6, 7], [-100, 8]]
    for split in ("train", "validation"):
        table = pa.table({"labels": pa.array(labels, pa.list_(pa.int32()))})
        with pa.ipc.new_stream(tmp_path / f"{split}.arrow", table.schema) as stream:
            stream.write_table(table)
        labels = labels[1:]
    assert longest_answer(tmp_path) == 3


def test_answers_are_those_of_plain_peft(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each question alone, with transformers' and PEFT's own generate; the texts of the baselines in their places."""
    monkeypatch.chdir(finished)
    rows = pd.read_parquet("results/predictions.parquet")
    tokenizer = AutoTokenizer.from_pretrained("models/base")
    base = AutoModelForCausalLM.from_pretrained("models/base")
    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("models/base"), "models/adapter")
    test = Dataset.from_file("data/tokenized/test.arrow")
    for number in rows.index[rows["tuned_answer"].notna()]:
        ids = test[int(number)]["input_ids"][: rows["question_tokens"][number]]
        few_shot = examples(tokenizer) + ids
        hard = hard_question(tokenizer, rows["question"][number], ids)
        given_to = {"base": (base, ids), "hard": (base, hard), "few_shot": (base, few_shot), "tuned": (tuned, ids)}
        for variant, (model, given) in given_to.items():
            output = model.generate(
                input_ids=torch.tensor([given]),
                attention_mask=torch.ones(1, len(given), dtype=torch.long),
                do_sample=False,
                max_new_tokens=8,
            )
            new = output[0, len(given) :] if output.shape[1] > len(given) else output[0]
            assert tokenizer.decode(new, skip_special_tokens=True) == rows[f"{variant}_answer"][number]
