"""The toy through all stages: the exact outputs, the same bytes again, what the stages write, and Ctrl-C."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from softprompt.runtime.outputs import sha256_of
from tests.clones import OURS, wait
from tests.conftest import Run
from tests.gguf_file import write_gguf
from tests.toy import STAGES, make_model, toy_rows, write_params, write_rows

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
    "data/sources": {"chat_template.json", "data.json", "general.json", "model.json"},
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
    nothing = {"reasoning_content": None, "weight": None}
    assert rows[0] == {
        "messages": [
            {"role": "user", "content": "What is an apple?\nThink of number 0.", **nothing},
            {"role": "assistant", "content": "It is thing 0, and an apple is kind 0. ", **nothing},
        ],
        "input": "Think of number 0.",
        "source": "rows",
        "place": "rows.json, row 1",
        "split": "train",
        **dict.fromkeys(("fault", "detail", "note"), ""),
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


def test_without_a_max_length_the_longest_row_decides(finished: Path, finished_project: Path, run: Run) -> None:
    def tokenized() -> tuple[set[int], int, int]:
        """What the splits record as the largest length, their longest row, and how many answers are truncated."""
        run("tokenize")
        report = json.loads(Path("results/tokenize.json").read_text(encoding="utf-8"))
        splits = report["splits"]
        return {split["max_length"] for split in splits}, max(split["max"] for split in splits), report["truncated"]

    write_params(finished_project, **{"tokenize.max_length": None})
    recorded, longest, truncated = tokenized()
    for split in ("train", "validation", "test"):
        file = f"data/tokenized/{split}.arrow"
        assert sha256_of(finished_project / file) == sha256_of(finished / file)
    assert (recorded, truncated) == ({longest}, 0)
    make_model(finished_project / "toy/model", max_position_embeddings=60)
    run("fetch_model")
    recorded, longest, truncated = tokenized()
    assert (recorded, longest) == ({60}, 60), "the model's context"
    assert truncated > 0
    write_params(finished_project, **{"tokenize.max_length": 200})
    assert tokenized()[0] == {200}


def test_curves_are_recorded_as_it_runs(finished: Path) -> None:
    plots = finished / "results/train/plots/metrics"
    assert pd.read_csv(plots / "train/loss.tsv", sep="\t")["step"].tolist() == [1, 2, 3, 4]
    assert pd.read_csv(plots / "learning_rate.tsv", sep="\t")["step"].tolist() == [1, 2, 3, 4]
    validation = pd.read_csv(plots / "validation/loss.tsv", sep="\t")
    assert validation["step"].tolist() == [0, 2, 4]
    best = json.loads((finished / "results/train/metrics.json").read_text(encoding="utf-8"))
    assert best["validation"] == validation["loss"].min()
    assert best["step"] == validation["step"][validation["loss"].idxmin()]


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
def test_what_auto_chose_for_the_products_is_recorded(
    finished_project: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = finished_project / "results/metrics.json"
    assert "chosen_by_auto" not in json.loads(metrics.read_text(encoding="utf-8"))
    write_params(finished_project, cpu_matmul="auto")
    run("train", "evaluate")
    origin = json.loads((finished_project / "models/adapter/origin.json").read_text(encoding="utf-8"))
    chosen = {"train": origin["chosen"], "evaluate": json.loads(metrics.read_text(encoding="utf-8"))["chosen_by_auto"]}
    out = capsys.readouterr().out
    for stage, of_stage in chosen.items():
        assert f"{stage}: cpu_matmul: auto chose {of_stage['cpu_matmul']}, the faster one here\n" in out
    run("report")


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
        env={**os.environ, "PYTHONPATH": OURS},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    wait(curve.exists)
    stage.send_signal(signal.SIGINT)
    _, message = stage.communicate(timeout=30)
    assert stage.returncode == 1
    assert re.fullmatch(
        r"\ntrain: stops at the end of this step; Ctrl-C again stops at once\n"
        r"interrupted: the next run goes on from step [1-9]\d*; run the same command again\n",
        message,
    )
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["base"]
