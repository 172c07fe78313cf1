"""All that the report reads, made by hand: nasty texts, sources and tokens among plain ones."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from softprompt.runtime.outputs import MANIFEST
from tests.toy import ROOT

NASTY = (
    "<script>alert(1)</script>",
    "</style></svg><img src=https://elsewhere.invalid/x onerror=alert(1)>",
    "\"double\" 'single' & `ticks` | pipe",
    "{{7*7}} {% raw %} ${7*7}",
    "苹果是什么,请用一句话回答。",
    "safe \u202egnp.exe",
    "w" * 400,
    "one\n\ntwo\x00\x1b[31m",
    "--> ]]> <!--",
)
SOURCES = ("plain.yml", "<b onclick=alert(1)>|`@all`")
VARIANTS = ("base", "hard", "few_shot", "tuned")


def interval(mean: float, half: float = 0.1) -> dict[str, float]:
    return {"mean": mean, "low": mean - half, "high": mean + half}


def make_rows(answered: int = 18) -> list[dict[str, Any]]:
    """Rows of predictions.parquet: every third is worse than the few-shot prompt, and some gains are equal."""
    rows = []
    for number in range(24):
        text = NASTY[number % len(NASTY)]
        tuned = 2.0 + number / 10
        gains = {
            "base": 0.75 - (number % 7) / 4,
            "hard": 0.25 - (number % 5) / 4,
            "few_shot": -0.25 - number / 100 if number % 3 == 0 else 0.5 + (number - number % 5) / 50,
        }
        losses = {**{variant: tuned + gain for variant, gain in gains.items()}, "tuned": tuned}
        row: dict[str, Any] = {
            "example_id": f"{number * 7919 % 1000:016x}",
            "question_id": f"{number:016x}",
            "source": SOURCES[number % 2],
            "question": f"Question {number}: {text}",
            "reference": text,
            "question_tokens": 10 + number,
            "tokens": 5 + number,
            **{f"{variant}_loss": loss for variant, loss in losses.items()},
            **{f"gain_over_{variant}": gain for variant, gain in gains.items()},
        }
        for variant in VARIANTS:
            empty = number == 4 and variant == "base"
            values = {
                "answer": "" if empty else f"{variant} says {text}",
                "answer_tokens": 0 if empty else 7,
                "truncated": number % 6 == 0,
                "empty": empty,
                "exact_match": False,
                "chrf": 20.0,
                "bleu": 3.0,
                "rouge_l": 10.0,
                "repetition": 0.0,
            }
            row |= {f"{variant}_{name}": value if number < answered else None for name, value in values.items()}
        rows.append(row)
    return rows


def make_metrics() -> dict[str, Any]:
    losses = {
        variant: {"loss": loss, "perplexity": loss**3}
        for variant, loss in zip(VARIANTS, (2.6, 2.4, 2.3, 2.1), strict=True)
    }
    gaps = {
        "tuned_minus_base": interval(-0.5),
        "tuned_minus_hard": interval(-0.3),
        "tuned_minus_few_shot": interval(-0.2),
    }
    counts = {"rows": 8, "questions": 7, "tokens": 99}
    part = {**counts, "base": 2.5, "hard": 2.25, "few_shot": 2.2, "tuned": 2.0, **gaps}
    slices = [
        {"by": "answer length", "slice": "1 to 9 tokens", **part},
        {"by": "answer length", "slice": "10 to 99 tokens", **part, "tuned_minus_few_shot": interval(0.2)},
        {"by": "source", "slice": SOURCES[0], **part, "tuned_minus_few_shot": interval(0.01)},
        {"by": "source", "slice": SOURCES[1], **part},
        {"by": "source", "slice": NASTY[4] * 9, **part, **dict.fromkeys(gaps)},
    ]
    names = ("chrF", "BLEU", "ROUGE-L", "exact match", "length ratio", "truncated", "empty", "repetition")
    betters = ("higher", "higher", "higher", "higher", "near 1", "lower", "lower", "lower")
    score = {name: interval(0.5) for name in VARIANTS} | {name: interval(0.2) for name in gaps}
    scores = [
        {"score": name, "better": better, **score, "tuned_minus_few_shot": interval(0.01)}
        for name, better in zip(names, betters, strict=True)
    ]
    hard = {"text": NASTY[2], "place": "system turn"}
    return {
        **losses,
        **gaps,
        "rows": 24,
        "questions": 24,
        "tokens": 1840,
        "strongest": "few_shot",
        "verdict": "helps",
        "prompts": {
            "hard": {"tokens": 9, **hard, "tried": [{**hard, "validation": 2.5}] * 2},
            "few_shot": {"examples": 4, "tokens": 139, "seed": 0, "example_ids": ["0" * 16] * 4},
            "tuned": {"tokens": 20},
        },
        "slices": slices,
        "answers": {"rows": 18, "questions": 18, "bleu_tokenizer": "13a", "scores": scores},
        "general": {
            "source": NASTY[0],
            "blocks": 32,
            "tokens": 4064,
            **losses,
            **{name: interval(0.4) for name in gaps},
        },
    }


def make_project(folder: Path) -> Path:
    """Everything in `folder`, with this project's params.yaml and dvc.yaml."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder / name)
    write_json(folder, "metrics", make_metrics())
    write_json(
        folder,
        "prepare",
        {
            "rows_in": 2306,
            "dropped": 1130,
            "kept": 1176,
            "reasons": [
                {"reason": "not_text", "rows": 1, "first": [f"{NASTY[0]}.json, row 7"]},
                {"reason": "duplicate", "rows": 1129},
            ],
            "changed": [{"change": "leading_answer", "rows": 2}],
            "leakage": [],
            "splits": [{"split": split, "rows": 392, "questions": 300} for split in ("train", "validation", "test")],
        },
    )
    counts = dict.fromkeys(
        ("rows", "tokens", "label_tokens", "p5", "p50", "p95", "p99", "max", "truncated", "dropped"), 47
    )
    splits = [{"split": split, **counts, "reasons": []} for split in ("train", "validation", "test")]
    told = {"rows": 3, "dropped": True, "examples": ["0" * 16, "1" * 16], "detail": NASTY[7]}
    splits[0]["reasons"] = [{"reason": f"the chat template refuses the messages: {NASTY[0]}", **told}]
    write_json(folder, "tokenize", {"truncated": 141, "dropped": 3, "splits": splits})
    write_json(folder, "train/metrics", {"step": 20, "validation": 2.96})
    tokens = [
        {"position": place, "norm": 1.25, "nearest": [{"token": text, "cosine": 0.5} for text in NASTY[:5]]}
        for place in range(4)
    ]
    write_json(folder, "virtual_tokens", {"norm_of_vocabulary": {"p5": 1.0, "p50": 2.0, "p95": 3.0}, "tokens": tokens})
    write_rows(folder, make_rows())
    write_curve(folder, "train/loss", "loss", [(step, 4 - step / 20) for step in range(1, 41)])
    write_curve(folder, "validation/loss", "loss", [(0, 3.2), (20, 2.96), (40, 2.97)])
    write_curve(folder, "learning_rate", "learning_rate", [(step, 0.01 * (1 - step / 40)) for step in range(1, 41)])
    for name in ("models/base", "data/raw", "data/general", "models/adapter"):
        (folder / name).mkdir(parents=True)
        (folder / name / "source.json").write_text(json.dumps({"source": NASTY[0], "rows": 7}), encoding="utf-8")
        (folder / name / MANIFEST).write_text(f"{'0' * 64}  source.json\n", encoding="utf-8")
    write_adapter(folder / "models/adapter")
    return folder


def write_adapter(folder: Path, method: str = "PROMPT_TUNING", virtual_tokens: int | None = 4) -> None:
    config = {"peft_type": method} | ({"num_virtual_tokens": virtual_tokens} if virtual_tokens else {})
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file({"prompt_embeddings": np.zeros((4, 8), np.float32)}, folder / "adapter_model.safetensors")


def write_json(folder: Path, name: str, value: dict[str, Any]) -> None:
    path = folder / f"results/{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), folder / "results/predictions.parquet")


def write_curve(folder: Path, name: str, column: str, points: list[tuple[int, float]]) -> None:
    path = folder / f"results/train/plots/metrics/{name}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"step\t{column}", *(f"{step}\t{value}" for step, value in points)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
