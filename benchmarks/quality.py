"""Held-out loss of recipes, the same rows and steps, several seeds: `python -m benchmarks.quality [RECIPE …]`.

Needs what `make repro` makes (models/base/, data/prepared/, data/tokenized/). Prints a table and writes
results/quality.json. The defaults of each method in params.yaml and softprompt/training/methods.py were chosen by
validation losses.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from datasets import Dataset
from dvclive import Live
from peft import PromptTuningConfig
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from benchmarks.speed import machine
from softprompt.config import Params, load_params
from softprompt.data.templates import Template
from softprompt.data.templates.demonstrations import demonstrations
from softprompt.data.tokens import context_of
from softprompt.engine.model import SharedPrefixModel
from softprompt.engine.row_losses import row_losses
from softprompt.provenance.origin import base_hash
from softprompt.report.recipes import QUALITY, read_quality
from softprompt.runtime.guard import exit_on_input_error
from softprompt.runtime.libraries import quiet_libraries
from softprompt.runtime.markdown import table as markdown_table
from softprompt.runtime.outputs import fingerprint, verified, write_json
from softprompt.runtime.paths import BASE_MODEL, PREPARED, SPLITS, TOKENIZED
from softprompt.training.base import hard_prompt_tokens, load_base_model
from softprompt.training.examples import taken_as_demonstrations
from softprompt.training.initialise import new_soft_prompt
from softprompt.training.methods import learning_rate
from softprompt.training.saving import Progress
from softprompt.training.training import tune

TRAIN_ROWS = PREPARED / "train.parquet"
SEEDS = [1, 2, 3]
DEFAULT: dict[str, Any] = {"init": None, "learning_rate": None}
# What needs no training. Of a few-shot prompt: its number of training rows, which the seed chooses.
UNTRAINED: dict[str, int | None] = {"base_model": None, "hard_prompt": None, "few_shot_4": 4, "few_shot_7": 7}
# Changes of the `train` section. What a recipe doesn't name is as in params.yaml.
RECIPES: dict[str, dict[str, Any]] = {
    # What one gets without choosing: PEFT's default initialisation, `Trainer`'s default learning rate and schedule.
    "usual": {"init": "random", "learning_rate": 5e-5, "lr_scheduler_type": "linear", "warmup_ratio": 0.0},
    # PEFT's example of prompt tuning for causal language models (examples/causal_language_modeling, prompt tuning
    # notebook): text, 8 virtual tokens, AdamW at 3e-2, linear without warm-up, no clipping.
    "peft_example": {
        "init": "text",
        "num_virtual_tokens": 8,
        "learning_rate": 3e-2,
        "lr_scheduler_type": "linear",
        "warmup_ratio": 0.0,
        "max_grad_norm": None,
    },
    # PEFT's own comparison of methods (method_comparison/MetaMathQA): vocabulary, AdamW at 1e-3, cosine, clipped at 1.
    "peft_comparison": {
        "init": "vocabulary",
        "learning_rate": 1e-3,
        "lr_scheduler_type": "cosine",
        "max_grad_norm": 1.0,
    },
    "prompt_tuning": {"method": "prompt_tuning", **DEFAULT},
    "prompt_of_demonstrations": {"method": "prompt_tuning", **DEFAULT, "init": "demonstrations"},
    "p_tuning": {"method": "p_tuning", **DEFAULT},
    "prefix_of_text": {"method": "prefix_tuning", **DEFAULT, "init": "text"},
    "prefix_tuning": {"method": "prefix_tuning", **DEFAULT},
    "lora": {"method": "lora", **DEFAULT},
}


def here() -> dict[str, str | None]:
    """What losses are measured on in the project of the current folder: hashes, as in an adapter's origin."""
    return {"base_sha256": base_hash(BASE_MODEL), "rows_sha256": fingerprint(TOKENIZED)}


def trained(params: Params, rows: dict[str, Dataset], times: float = 1) -> tuple[SharedPrefixModel, Progress]:
    """Train by `params` on the project in the current folder: the model in its best state, and how it got there.

    Args:
        params: the pipeline's.
        rows: `train` and `validation`, tokenized.
        times: the learning rate is so many times that of `params`.
    """
    base, tokenizer = load_base_model(BASE_MODEL, params), AutoTokenizer.from_pretrained(BASE_MODEL)
    shown, left = taken_as_demonstrations(rows["train"], TRAIN_ROWS, template(tokenizer), params.train, params.seed)
    model = new_soft_prompt(base, tokenizer, BASE_MODEL, params.train, seed=params.seed, demonstrations=shown.ids)
    rate = times * learning_rate(params.train, model)
    params = params.model_copy(update={"train": params.train.model_copy(update={"learning_rate": rate})})
    with (
        tempfile.TemporaryDirectory() as folder,
        Live(str(Path(folder) / "live"), save_dvc_exp=False, dvcyaml=None) as live,
    ):
        checkpoints = Path(folder) / "runs/this"
        checkpoints.mkdir(parents=True)
        return model, tune(model, {**rows, "train": left}, params, checkpoints, live)


def held_out_losses(params: Params, rows: dict[str, Dataset]) -> dict[str, float]:
    """Train by `params`; losses of the best state on validation and test rows, in nats per label token.

    Also its step, how many tokens stand in front of a row, and how many numbers are trained.
    """
    model, progress = trained(params, rows)
    losses, tokens = row_losses(model, rows["test"], params.evaluate.batch_size, "test")
    return {
        "step": progress.best_step,
        "tokens": model.virtual_tokens,
        "trained": sum(weight.numel() for weight in progress.best_weights.values()),
        "validation": progress.best_loss,
        "test": float(losses.sum() / tokens.sum()),
    }


def untrained_losses(params: Params, rows: dict[str, Dataset], recipe: str) -> dict[str, float]:
    """The same of one of `UNTRAINED`, whose tokens stand in the place of virtual tokens."""
    base, tokenizer = load_base_model(BASE_MODEL, params), AutoTokenizer.from_pretrained(BASE_MODEL)
    ahead: list[int] = []
    if recipe == "hard_prompt":
        (ahead,) = hard_prompt_tokens(tokenizer, params.evaluate.hard_prompts[:1], base.config)
    elif examples := UNTRAINED[recipe]:
        names, room = rows["train"]["example_id"], context_of(base.config) or 2**20
        ahead = demonstrations(
            template(tokenizer), names, TRAIN_ROWS, seed=params.seed, room=room // 2, count=examples
        ).ids
    found: dict[str, float] = {"step": 0, "tokens": len(ahead), "trained": 0}
    model = SharedPrefixModel(base, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=1))
    with model.disable_adapter():
        for split in ("validation", "test"):
            losses, tokens = row_losses(model, rows[split], params.evaluate.batch_size, split, ahead)
            found[split] = float(losses.sum() / tokens.sum())
    return found


def template(tokenizer: PreTrainedTokenizerBase) -> Template:
    """That of the tokenized rows."""
    return Template(tokenizer, **json.loads((TOKENIZED / "template.json").read_text(encoding="utf-8")))


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """The results as Markdown: test losses of each seed, then means."""
    seeds = list(next(iter(results.values())))
    columns = [
        "tokens in front",
        "trained numbers",
        *(f"test, seed {seed}" for seed in seeds),
        "mean test",
        "mean validation",
    ]
    lines = [["recipe", *columns]]
    for recipe, of_seed in results.items():
        first, losses = of_seed[seeds[0]], [of_seed[seed]["test"] for seed in seeds]
        losses += [sum(values[split] for values in of_seed.values()) / len(seeds) for split in ("test", "validation")]
        lines.append([recipe, str(first["tokens"]), f"{first['trained']:,}", *(f"{loss:.3f}" for loss in losses)])
    return markdown_table(lines, texts=1)


def earlier(settings: dict[str, Any]) -> dict[str, Any]:
    """What was measured of all recipes with the same settings; those that are run now replace it.

    Raises:
        InputError: if the file is not what this benchmark writes.
    """
    quality = read_quality()
    kept = quality.model_dump() if quality else {}
    return kept["recipes"] if {key: kept.get(key) for key in settings} == settings else {}


def main() -> None:
    """Run the recipes and show the table."""
    parser = argparse.ArgumentParser(description="Held-out loss of training recipes over several seeds.")
    every = [*UNTRAINED, *RECIPES]
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=f"of {', '.join(every)}; all if none is named")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--set", default="{}", help='changes of what is trained as JSON, e.g. {"learning_rate": 0.003}')
    arguments = parser.parse_args()
    if unknown := set(arguments.recipes) - set(every):
        parser.error(f"unknown recipe {', '.join(sorted(unknown))}; allowed: {', '.join(every)}")
    params = load_params()
    verified(BASE_MODEL, "fetch_model"), verified(PREPARED, "prepare"), verified(TOKENIZED, "tokenize")
    quiet_libraries()
    rows = {split: Dataset.from_file(str(TOKENIZED / f"{split}.arrow")) for split in SPLITS}
    settings = {
        "machine": machine(),
        **here(),
        "epochs": params.train.num_train_epochs,
        "max_steps": params.train.max_steps,
        "rows_a_step": params.train.batch_size * params.train.gradient_accumulation_steps,
    }
    is_whole = arguments.set == "{}" and arguments.seeds == SEEDS
    known = earlier(settings) if is_whole else {}  # now: a damaged file must not cost what is measured
    results: dict[str, dict[str, dict[str, float]]] = {}
    for seed in arguments.seeds:
        for recipe in arguments.recipes or every:
            changes = {**RECIPES[recipe], **json.loads(arguments.set)} if recipe in RECIPES else {}
            changed = Params.model_validate(
                {**params.model_dump(), "seed": seed, "train": {**params.train.model_dump(), **changes}}
            )
            losses = untrained_losses(changed, rows, recipe) if recipe in UNTRAINED else held_out_losses(changed, rows)
            results.setdefault(recipe, {})[str(seed)] = losses
            print(f"{recipe}, seed {seed}: {losses}", flush=True)
    print(table(results))
    if is_whole:
        known |= results
        write_json(QUALITY, {**settings, "recipes": {name: known[name] for name in every if name in known}})


if __name__ == "__main__":
    with exit_on_input_error():
        main()
