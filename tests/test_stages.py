"""The toy through all stages: exact outputs, the same bytes again, the adapter in plain PEFT, and every refusal."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from softprompt.config import load_params
from softprompt.evaluation.sample import longest_answer
from softprompt.evaluation.variants import Variants
from softprompt.runtime.outputs import sha256_of
from tests.conftest import Run
from tests.gguf_file import write_gguf
from tests.toy import ROOT, STAGES, make_model, toy_rows, write_params, write_rows

OUTPUTS = {
    "models/base": {
        "SHA256SUMS",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "source.json",
        "tokenizer.json",
        "tokenizer_config.json",
    },
    "models/adapter": {
        "README.md",
        "SHA256SUMS",
        "adapter_config.json",
        "adapter_model.safetensors",
        "origin.json",
    },
    "data/general": {"SHA256SUMS", "source.json", "texts.parquet"},
    "data/sources": {"data.json", "general.json", "model.json"},
    "data/raw": {"SHA256SUMS", "rows.parquet", "source.json"},
    "data/prepared": {"SHA256SUMS", "test.parquet", "train.parquet", "validation.parquet"},
    "data/tokenized": {"SHA256SUMS", "template.json", "test.arrow", "train.arrow", "validation.arrow"},
    "results": {
        "headline.json",
        "metrics.json",
        "predictions.jsonl",
        "predictions.parquet",
        "prepare.json",
        "report.html",
        "report.md",
        "tokenize.json",
        "train/metrics.json",
        "train/plots/metrics/learning_rate.tsv",
        "train/plots/metrics/train/loss.tsv",
        "train/plots/metrics/validation/loss.tsv",
        "virtual_tokens.json",
    },
}


def outputs(folder: Path) -> dict[str, str]:
    """Every output file with the SHA-256 of its bytes."""
    files = [path for name in ("models", "data", "results") for path in (folder / name).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in sorted(files)}


def test_the_exact_set_of_outputs(finished: Path) -> None:
    assert set(outputs(finished)) == {f"{folder}/{name}" for folder, names in OUTPUTS.items() for name in names}


def test_the_same_bytes_again_elsewhere(
    finished: Path, run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    write_params(project, **{"runtime.workers": 2})
    torch.manual_seed(99)
    run(*STAGES)
    assert outputs(project) == outputs(finished)


def test_the_base_model_is_the_source_and_still_is_after_training(finished: Path, toy_model: Path) -> None:
    assert sha256_of(finished / "models/base/model.safetensors") == sha256_of(toy_model / "model.safetensors")
    for line in (finished / "models/base/SHA256SUMS").read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        assert sha256_of(finished / "models/base" / name) == digest
    AutoModelForCausalLM.from_pretrained(finished / "models/base")
    AutoTokenizer.from_pretrained(finished / "models/base")


def test_raw_rows(finished: Path) -> None:
    rows = pq.read_table(finished / "data/raw/rows.parquet").to_pylist()
    assert rows[0] == {
        "messages": [
            {"role": "user", "content": "What is an apple?\nThink of number 0."},
            {"role": "assistant", "content": "It is thing 0, and an apple is kind 0. "},
        ],
        "input": "Think of number 0.",
        "source": "rows",
    }
    assert len(rows) == 48


def test_no_question_stands_in_two_splits_and_adding_rows_moves_none(finished: Path, run: Run, project: Path) -> None:
    def splits(folder: Path) -> dict[str, str]:
        found: dict[str, str] = {}
        for split in ("train", "validation", "test"):
            for row in pq.read_table(folder / f"data/prepared/{split}.parquet").to_pylist():
                question = row["messages"][0]["content"].casefold()
                assert found.setdefault(question, split) == split
        return found

    rows = toy_rows()
    again = [{**row, "instruction": row["instruction"].upper(), "output": "Another answer."} for row in rows]
    new = [{"instruction": f"New question {number}?", "input": "", "output": "New."} for number in range(40)]
    write_rows(project, [*new, *again, *rows])
    run("fetch_data", "prepare")
    before, after = splits(finished), splits(project)
    assert before.items() <= after.items()
    assert len(after) == len(before) + 40
    report = json.loads(Path("results/prepare.json").read_text(encoding="utf-8"))
    assert report["rows_in"] == 136
    assert report["dropped"] + report["kept"] == 136
    assert sum(reason["rows"] for reason in report["reasons"]) == report["dropped"]
    assert sum(split["rows"] for split in report["splits"]) == report["kept"]


def test_arrow_is_a_stream_that_datasets_maps_without_copying(finished: Path) -> None:
    before = pa.total_allocated_bytes()
    rows = Dataset.from_file(str(finished / "data/tokenized/train.arrow"))
    assert pa.total_allocated_bytes() - before < 1000
    assert rows.features["input_ids"].feature.dtype == rows.features["labels"].feature.dtype == "int32"
    report = json.loads((finished / "results/tokenize.json").read_text(encoding="utf-8"))
    (counts,) = (split for split in report["splits"] if split["split"] == "train")
    assert counts["rows"] == len(rows)
    assert counts["tokens"] == sum(len(row["input_ids"]) for row in rows)
    assert counts["label_tokens"] == sum(label >= 0 for row in rows for label in row["labels"])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"train.method": "p_tuning"},
        {"train.method": "p_tuning", "train.encoder": "lstm"},
        {"train.method": "prefix_tuning"},
        {"train.method": "prefix_tuning", "train.init": "zero"},
        {"train.method": "prefix_tuning", "train.init": "random"},
    ],
    ids=lambda changes: " ".join(changes.values()) or "default",
)
def test_the_adapter_in_plain_peft_has_the_loss_that_metrics_say(
    finished: Path, project: Path, run: Run, changes: dict[str, str]
) -> None:
    """Row by row, with PEFT's and transformers' own loss and nothing of ours."""
    shutil.copytree(finished, project, dirs_exist_ok=True)
    if changes:
        write_params(project, **changes)
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
    loaded = AutoPeftModelForCausalLM.from_pretrained("models/adapter")
    assert loaded.peft_config["default"].base_model_name_or_path == "models/base"


def test_metrics_agree_with_the_losses_of_each_row(finished: Path) -> None:
    metrics = json.loads((finished / "results/metrics.json").read_text(encoding="utf-8"))
    rows = pd.read_parquet(finished / "results/predictions.parquet")
    assert list(metrics)[:5] == ["base", "hard", "tuned", "tuned_minus_base", "tuned_minus_hard"]
    for variant in ("base", "hard", "tuned"):
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
    for variant in ("base", "hard", "tuned"):
        assert (rows[f"{variant}_answer"].notna() == answered).all()
        assert (rows.loc[answered, f"{variant}_answer_tokens"] <= 8).all()
    lines = [json.loads(line) for line in (finished / "results/predictions.jsonl").read_text("utf-8").splitlines()]
    assert [line["example_id"] for line in lines] == rows["example_id"].tolist()
    assert list(lines[0]) == list(rows.columns)


def test_rows_and_blocks_are_at_most_and_an_answer_as_long_as_the_datas(
    finished: Path, project: Path, run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished, project, dirs_exist_ok=True)
    many = {"evaluate.rows": 1000, "general.blocks": 1000, "evaluate.generate.max_new_tokens": None}
    write_params(project, **many)
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


def test_without_a_max_length_the_longest_row_decides(finished: Path, project: Path, run: Run) -> None:
    def tokenized() -> tuple[set[int], int, int]:
        """What the splits record as the largest length, their longest row, and how many answers are truncated."""
        run("tokenize")
        report = json.loads(Path("results/tokenize.json").read_text(encoding="utf-8"))
        splits = report["splits"]
        return {split["max_length"] for split in splits}, max(split["max"] for split in splits), report["truncated"]

    shutil.copytree(finished, project, dirs_exist_ok=True)
    write_params(project, **{"tokenize.max_length": None})
    recorded, longest, truncated = tokenized()
    for split in ("train", "validation", "test"):
        file = f"data/tokenized/{split}.arrow"
        assert sha256_of(project / file) == sha256_of(finished / file)
    assert (recorded, truncated) == ({longest}, 0)
    make_model(project / "toy/model", max_position_embeddings=60)
    run("fetch_model")
    recorded, longest, truncated = tokenized()
    assert (recorded, longest) == ({60}, 60), "the model's context"
    assert truncated > 0
    write_params(project, **{"tokenize.max_length": 200})
    assert tokenized()[0] == {200}


def test_an_answer_is_no_longer_than_the_context_leaves(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    variants = Variants.load(Path("models/base"), Path("models/adapter"), load_params())
    assert variants.room_after(100) == 512 - max(4, len(variants.hard_prompt)) - 100


def test_the_longest_answer_of_a_conversation_is_a_turn(tmp_path: Path) -> None:
    labels = [[-100, 1, 2, -100, 3, 4, 5], [-100, -100, 6, 7], [-100, 8]]
    for split in ("train", "validation"):
        table = pa.table({"labels": pa.array(labels, pa.list_(pa.int32()))})
        with pa.ipc.new_stream(tmp_path / f"{split}.arrow", table.schema) as stream:
            stream.write_table(table)
        labels = labels[1:]
    assert longest_answer(tmp_path) == 3


def test_answers_are_those_of_plain_peft(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each question alone, with transformers' and PEFT's own generate; the hard prompt as text in the same place."""
    monkeypatch.chdir(finished)
    rows = pd.read_parquet("results/predictions.parquet")
    tokenizer = AutoTokenizer.from_pretrained("models/base")
    base = AutoModelForCausalLM.from_pretrained("models/base")
    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("models/base"), "models/adapter")
    hard = tokenizer(load_params().evaluate.hard_prompt, add_special_tokens=False)["input_ids"]
    test = Dataset.from_file("data/tokenized/test.arrow")
    for number in rows.index[rows["tuned_answer"].notna()]:
        ids = test[int(number)]["input_ids"][: rows["question_tokens"][number]]
        for variant, model, given in (("base", base, ids), ("hard", base, hard + ids), ("tuned", tuned, ids)):
            output = model.generate(
                input_ids=torch.tensor([given]),
                attention_mask=torch.ones(1, len(given), dtype=torch.long),
                do_sample=False,
                max_new_tokens=8,
            )
            new = output[0, len(given) :] if output.shape[1] > len(given) else output[0]
            assert tokenizer.decode(new, skip_special_tokens=True) == rows[f"{variant}_answer"][number]


def test_curves_are_recorded_as_it_runs(finished: Path) -> None:
    plots = finished / "results/train/plots/metrics"
    assert pd.read_csv(plots / "train/loss.tsv", sep="\t")["step"].tolist() == [1, 2, 3, 4]
    assert pd.read_csv(plots / "learning_rate.tsv", sep="\t")["step"].tolist() == [1, 2, 3, 4]
    validation = pd.read_csv(plots / "validation/loss.tsv", sep="\t")
    assert validation["step"].tolist() == [0, 2, 4]
    best = json.loads((finished / "results/train/metrics.json").read_text(encoding="utf-8"))
    assert best["validation"] == validation["loss"].min()
    assert best["step"] == validation["step"][validation["loss"].idxmin()]


def test_gguf_is_dequantised_once(run: Run, project: Path) -> None:
    """A real GGUF file, written with the reference implementation."""
    model, tokenizer = write_gguf(Path("toy/model"), Path("toy/model.gguf"))
    whole = Path("toy/model.gguf").read_bytes()
    write_params(project, **{"model.source": "toy/cut.gguf"})
    for length in (10, len(whole) // 4, len(whole) - 1000):
        Path("toy/cut.gguf").write_bytes(whole[:length])
        with pytest.raises(SystemExit, match="not a GGUF file that transformers can read, or not a whole one"):
            run("fetch_model")
    write_params(project, **{"model.source": "toy/model.gguf", "model.sha256": sha256_of(Path("toy/model.gguf"))})
    run("fetch_model")
    loaded = AutoModelForCausalLM.from_pretrained("models/base")
    assert loaded.dtype == torch.float32
    assert loaded.config.model_type == "qwen2"
    table = loaded.get_input_embeddings().weight.detach()
    assert torch.allclose(table, model.get_input_embeddings().weight, atol=1e-3)
    assert AutoTokenizer.from_pretrained("models/base").chat_template == tokenizer.chat_template


def test_ctrl_c_is_one_line_and_leaves_nothing_half_written(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "models/adapter")
    curve = tmp_path / "results/train/plots/metrics/train/loss.tsv"
    curve.unlink()
    write_params(tmp_path, **{"train.init": "vocabulary", "train.max_steps": 2000, "runtime.save_steps": 2000})
    stage = subprocess.Popen(
        # What runs in the background inherits an ignored SIGINT.
        ["env", "--default-signal=INT", sys.executable, "-m", "stages.train"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not curve.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    stage.send_signal(signal.SIGINT)
    _, message = stage.communicate(timeout=30)
    assert stage.returncode == 1
    assert re.fullmatch(
        r"\ntrain: stops at the end of this step; Ctrl-C again stops at once\n"
        r"interrupted: the next run goes on from step [1-9]\d*; run the same command again\n",
        message,
    )
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["base"]
