"""The rows that are measured: the repository's own, and Alpaca's, taken through the pipeline's own stages."""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runner import run_module
from softprompt.runtime.errors import InputError
from softprompt.runtime.paths import BASE_MODEL, TOKENIZED

ALPACA = Path(os.environ.get("ALPACA", "../shared/data/alpaca_zh_demo.json"))
MAX_LENGTH = 256
Sections = dict[str, dict[str, Any]]
DEFAULT_ROWS = str(TOKENIZED / "train.arrow")


def check_alpaca() -> None:
    """Refuse to start without an Alpaca file.

    Raises:
        InputError: that names what is needed.
    """
    if not ALPACA.is_file():
        raise InputError(
            f"{ALPACA} is missing: name a JSON file in Alpaca's format (a list of instruction, input, output), such as "
            "ALPACA=path/to/alpaca.json make benchmark"
        )


def pick(path: str, count: int, length: int | None = None) -> Any:
    """`count` rows of a tokenized split as a `Dataset`, always the same; repeated where there are fewer.

    Args:
        path: an Arrow stream of the tokenize stage.
        count: how many.
        length: only rows of so many tokens; None: any.
    """
    from datasets import Dataset

    from softprompt.engine.packing import row_lengths

    rows = Dataset.from_file(path).select_columns(["input_ids", "labels"])
    lengths = row_lengths(rows)
    usable = np.arange(len(lengths)) if length is None else np.flatnonzero(lengths == length)
    if not len(usable):
        raise InputError(f"{path} has no row of {length} tokens; another file is needed: ALPACA=path make benchmark")
    chosen = np.resize(np.random.default_rng(0).permutation(usable), count)
    return Dataset.from_dict(rows[chosen.tolist()])  # not `select`: sampler and trainer read Arrow's own lengths


def alpaca_project(folder: Path) -> Path:
    """A project in `folder` with the Alpaca file as its data, tokenized; returns the training rows' path."""
    if not folder.exists():
        prepare_project(folder, ("fetch_data", "prepare", "tokenize"), alpaca_params(ALPACA))
    return folder / DEFAULT_ROWS


def alpaca_params(data: Path, max_samples: int | None = None, max_length: int = MAX_LENGTH) -> Sections:
    """Changes of params.yaml that take the Alpaca file `data`, by section."""
    return {
        "data": {"source": str(data.resolve()), "sha256": None, "split": "train"},
        "prepare": {"max_samples": max_samples},
        "tokenize": {"template": "chat", "system": None, "max_length": max_length},
    }


def many_alpaca_rows(path: Path, count: int) -> None:
    """Write `count` distinct rows to `path`, made of the Alpaca file's by numbering the instructions."""
    rows = json.loads(ALPACA.read_text(encoding="utf-8"))
    copies = -(-count // len(rows)) + 2  # some rows are empty or twice there; prepare drops those and the surplus
    numbered = [{**row, "instruction": f"{row['instruction']} ({copy})"} for copy in range(copies) for row in rows]
    path.write_text(json.dumps(numbered, ensure_ascii=False), encoding="utf-8")


def prepare_project(folder: Path, stages: Iterable[str], changes: Sections) -> None:
    """Set up a project of the pipeline in `folder`, and run `stages` there, such as fetch_data.

    Args:
        folder: is made anew.
        stages: by name. Where fetch_model is none of them, the project has this repository's base model.
        changes: of this repository's params.yaml, by section.
    """
    from ruamel.yaml import YAML

    yaml = YAML()
    params = yaml.load(Path("params.yaml"))
    for section, values in changes.items():
        params[section] |= values
    params["runtime"]["workers"] = params["threads"]
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "models").mkdir(parents=True)
    yaml.dump(params, folder / "params.yaml")
    if "fetch_model" not in stages:
        (folder / BASE_MODEL).symlink_to(BASE_MODEL.resolve())
    for stage in stages:
        run_module(f"stages.{stage}", folder=folder)
