"""What the report reads: the results of the stages before it, each checked to be there and of this version."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softprompt.evaluation.names import baselines, measured
from softprompt.evaluation.recorded import TRAIN_METRICS, TrainMetrics, checked, read_metrics
from softprompt.report.adapter_size import AdapterSize, adapter_size
from softprompt.report.recipes import Comparison, read_recipes
from softprompt.report.seeds import Seeds, read_seeds
from softprompt.runtime.errors import InputError
from softprompt.runtime.outputs import required
from softprompt.runtime.paths import ADAPTER, RESULTS

CURVES = RESULTS / "train/plots/metrics"
Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class Results:
    """All that was measured.

    Attributes:
        metrics, prepare, tokenize, train, virtual_tokens: the files of these names in results/.
        adapter: what it is, and how large.
        seeds: test losses of the same training with other seeds, if a sweep measured them.
        others: other methods on the same model and rows, if they were measured.
        rows: predictions.parquet, a dict per test row; what a row does not have is None.
        training, validation, learning_rate: (step, value) pairs; losses in nats per label token.
    """

    metrics: dict[str, Any]
    prepare: dict[str, Any]
    tokenize: dict[str, Any]
    train: dict[str, Any]
    virtual_tokens: dict[str, Any]
    adapter: AdapterSize
    seeds: Seeds | None
    others: Comparison | None
    rows: list[dict[str, Any]]
    training: Curve
    validation: Curve
    learning_rate: Curve


def load_results() -> Results:
    """Read the results.

    Raises:
        InputError: if a file is missing, damaged or lacks what this version reads; names the command that makes it.
    """
    metrics = read_metrics()
    return Results(
        metrics=metrics,
        prepare=_read_json(
            "prepare.json", "prepare", "rows_in", "dropped", "kept", "reasons", "changed", "leakage", "splits"
        ),
        tokenize=_read_json("tokenize.json", "tokenize", "truncated", "dropped", "splits"),
        train=checked(TRAIN_METRICS, TrainMetrics, "train"),
        virtual_tokens=_read_json("virtual_tokens.json", "evaluate", "tokens"),
        adapter=adapter_size(),
        seeds=read_seeds(ADAPTER),
        others=read_recipes(ADAPTER),
        rows=_read_rows(RESULTS / "predictions.parquet", measured(metrics)),
        training=_read_curve(CURVES / "train/loss.tsv", "loss"),
        validation=_read_curve(CURVES / "validation/loss.tsv", "loss"),
        learning_rate=_read_curve(CURVES / "learning_rate.tsv", "learning_rate"),
    )


def _read_json(name: str, stage: str, *keys: str) -> dict[str, Any]:
    path = required(RESULTS / name, stage)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, stage, error) from None
    if lacking := [key for key in keys if not isinstance(values, dict) or key not in values]:
        raise InputError(
            f"{path} has no {', '.join(lacking)}: an older version wrote it; make it with: dvc repro {stage}"
        )
    return values


def _read_rows(path: Path, variants: list[str]) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(required(path, "evaluate"))
    except pa.ArrowInvalid as error:
        raise _unreadable(path, "evaluate", error) from None
    columns = [f"{variant}_{name}" for variant in variants for name in ("loss", "answer", "empty", "truncated")]
    columns += [f"gain_over_{variant}" for variant in baselines(variants)]
    if lacking := [name for name in columns if name not in table.column_names]:
        raise _unreadable(path, "evaluate", f"no {', '.join(lacking)}")
    return table.to_pylist()


def _read_curve(path: Path, column: str) -> Curve:
    try:
        with required(path, "train").open(encoding="utf-8", newline="") as file:
            return [(int(row["step"]), float(row[column])) for row in csv.DictReader(file, delimiter="\t")]
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(path, "train", error) from None


def _unreadable(path: Path, stage: str, error: Exception | str) -> InputError:
    return InputError(f"{path} can't be read ({error}); make it again with: dvc repro --force --single-item {stage}")
