"""Tokenizing: the tokenize stage against row-by-row `datasets.map`, each as a process of its own from start to end."""

import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.runner import run_module
from softprompt.data.tokens import IGNORED
from softprompt.runtime.paths import BASE_MODEL, PREPARED


def tokenize(*, side: str, project: str, max_length: int, workers: int) -> dict[str, Any]:
    """Seconds to tokenize all splits of a prepared project.

    Args:
        side: "ours" runs the stage; "map" and "map, workers" the baseline, in one process or in `workers`.
        project: its folder.
        max_length: tokens of a row.
        workers: as the project's params have it.
    """
    import pyarrow.parquet as pq

    count = sum(pq.read_metadata(path).num_rows for path in (Path(project) / PREPARED).glob("*.parquet"))
    start = time.perf_counter()
    if side == "ours":
        run_module("stages.tokenize", folder=Path(project))
    else:
        run_module(__name__, project, str(max_length), str(workers if side == "map, workers" else 1))
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "rows_per_second": count / seconds, "row_count": count}


def map_rows(project: str, max_length: int, workers: int) -> None:
    """What a user would write: a function of one row, with the chat template, through `Dataset.map`."""
    import tempfile

    from datasets import load_dataset
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(BASE_MODEL)

    def encode(row: dict[str, Any]) -> dict[str, list[int]]:
        prompt = tokenizer.apply_chat_template(row["messages"][:-1], add_generation_prompt=True)["input_ids"]
        ids = tokenizer.apply_chat_template(row["messages"])["input_ids"][:max_length]
        return {"input_ids": ids, "labels": [IGNORED] * min(len(prompt), len(ids)) + ids[len(prompt) :]}

    files = [str(path) for path in (Path(project) / PREPARED).glob("*.parquet")]
    with tempfile.TemporaryDirectory() as cache:  # a second run would find the first one's result
        rows = load_dataset("parquet", data_files=files, split="train", cache_dir=cache)
        rows.map(encode, num_proc=workers if workers > 1 else None, remove_columns=["messages", "input", "source"])


if __name__ == "__main__":
    map_rows(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
