"""A new prompt on the toy's model, and its training."""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from dvclive import Live
from peft import PeftModel
from transformers import AutoTokenizer

from softprompt.config import Params, load_params
from softprompt.data.templates import Template
from softprompt.engine.model import SharedPrefixModel
from softprompt.training.base import load_base_model
from softprompt.training.examples import taken_as_demonstrations
from softprompt.training.initialise import new_soft_prompt
from softprompt.training.saving import Progress
from softprompt.training.training import tune
from tests.toy import TOY, write_params


def params_of(folder: Path, **changes: Any) -> Params:
    write_params(folder, **{**TOY, **changes})
    return load_params(folder / "params.yaml")


def fresh(base: Path, params: Params, demonstrations: Sequence[int] = ()) -> SharedPrefixModel:
    """A new prompt on the frozen model in `base`."""
    return new_soft_prompt(
        load_base_model(base, params),
        AutoTokenizer.from_pretrained(base),
        base,
        params.train,
        seed=params.seed,
        demonstrations=demonstrations,
    )


def prompt(model: PeftModel) -> torch.Tensor:
    return model.prompt_encoder["default"].embedding.weight.detach()


@dataclass(frozen=True)
class Run:
    """A training run that has ended."""

    model: SharedPrefixModel
    rows: dict[str, Dataset]
    before: dict[str, torch.Tensor]
    progress: Progress

    def curve(self, name: str) -> list[float]:
        return [entry[name] for entry in self.progress.history if name in entry]


def demonstrations_of(finished: Path, params: Params) -> tuple[list[int], Dataset]:
    """What `init: demonstrations` begins with, and the rows that are left."""
    tokenized = finished / "data/tokenized"
    settings = json.loads((tokenized / "template.json").read_text(encoding="utf-8"))
    template = Template(AutoTokenizer.from_pretrained(finished / "models/base"), **settings)
    rows = Dataset.from_file(str(tokenized / "train.arrow"))
    prepared = finished / "data/prepared/train.parquet"
    found, left = taken_as_demonstrations(rows, prepared, template, params.train, params.seed)
    return found.ids, left


def trained(
    finished: Path, folder: Path, validation: Dataset | None = None, *, base: Path | None = None, **changes: Any
) -> Run:
    """Tune on the toy's tokens; `validation` replaces its validation rows, `base` its model."""
    params = params_of(folder, **changes)
    model = fresh(base or finished / "models/base", params)
    rows = {
        split: Dataset.from_file(str(finished / f"data/tokenized/{split}.arrow")).select_columns(
            ["input_ids", "labels"]
        )
        for split in ("train", "validation")
    }
    rows["validation"] = validation or rows["validation"]
    before = copy.deepcopy(model.state_dict())
    (folder / "checkpoints").mkdir(exist_ok=True)
    with Live(str(folder / "live"), save_dvc_exp=False, dvcyaml=None) as live:
        return Run(model, rows, before, tune(model, rows, params, folder / "checkpoints", live))
