"""Held-out loss of training recipes, same rows and steps, several seeds: `python -m benchmarks.quality [RECIPE …]`.

Needs what `make repro` makes (models/base/, data/tokenized/). Prints a table and writes results/quality.json. The
defaults of each method in params.yaml and softprompt/training/methods.py were chosen by the validation loss in this
table.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from datasets import Dataset
from dvclive import Live
from transformers import AutoTokenizer

from softprompt.config import Params, load_params
from softprompt.data.templates import Template
from softprompt.engine.row_losses import row_losses
from softprompt.runtime.guard import exit_on_input_error
from softprompt.runtime.outputs import verified, write_json
from softprompt.runtime.paths import BASE_MODEL, PREPARED, RESULTS, SPLITS, TOKENIZED
from softprompt.runtime.progress import quiet_libraries
from softprompt.training.base import load_base_model
from softprompt.training.examples import taken_as_demonstrations
from softprompt.training.initialise import new_soft_prompt
from softprompt.training.training import tune

RESULT = RESULTS / "quality.json"
SEEDS = [1, 2, 3]
DEFAULT: dict[str, Any] = {"init": None, "learning_rate": None}
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
    "p_tuning": {"method": "p_tuning", **DEFAULT},
    "prefix_tuning": {"method": "prefix_tuning", **DEFAULT},
    "lora": {"method": "lora", **DEFAULT},
}


def held_out_losses(params: Params, rows: dict[str, Dataset]) -> dict[str, float]:
    """Train by `params`; the best prompt's loss on validation and test rows, in nats per label token, and its step."""
    base, tokenizer = load_base_model(BASE_MODEL, params), AutoTokenizer.from_pretrained(BASE_MODEL)
    template = Template(tokenizer, **json.loads((TOKENIZED / "template.json").read_text(encoding="utf-8")))
    shown, left = taken_as_demonstrations(
        rows["train"], PREPARED / "train.parquet", template, params.train, params.seed
    )
    rows = {split: part.select_columns(["input_ids", "labels"]) for split, part in {**rows, "train": left}.items()}
    model = new_soft_prompt(base, tokenizer, BASE_MODEL, params.train, seed=params.seed, demonstrations=shown)
    with (
        tempfile.TemporaryDirectory() as folder,
        Live(str(Path(folder) / "live"), save_dvc_exp=False, dvcyaml=None) as live,
    ):
        checkpoints = Path(folder) / "runs/this"
        checkpoints.mkdir(parents=True)
        progress = tune(model, rows, params, checkpoints, live)
    losses, tokens = row_losses(model, rows["test"], params.evaluate.batch_size, "test")
    return {"step": progress.best_step, "validation": progress.best_loss, "test": float(losses.sum() / tokens.sum())}


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """The results as Markdown: test losses of each seed, then means."""
    seeds = list(next(iter(results.values())))
    lines = ["| recipe | " + " | ".join(f"test, seed {seed}" for seed in seeds) + " | mean test | mean validation |"]
    lines.append("|---|" + "--:|" * (len(seeds) + 2))
    for recipe, of_seed in results.items():
        shown = " | ".join(f"{of_seed[seed]['test']:.3f}" for seed in seeds)
        means = [sum(values[split] for values in of_seed.values()) / len(seeds) for split in ("test", "validation")]
        lines.append(f"| {recipe} | {shown} | {means[0]:.3f} | {means[1]:.3f} |")
    return "\n".join(lines)


def earlier() -> dict[str, dict[str, dict[str, float]]]:
    """What is known of all recipes; those that are run now replace it."""
    return json.loads(RESULT.read_text(encoding="utf-8"))["recipes"] if RESULT.exists() else {}


def main() -> None:
    """Run the recipes and show the table."""
    parser = argparse.ArgumentParser(description="Held-out loss of training recipes over several seeds.")
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=f"of {', '.join(RECIPES)}; all if none is named")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--set", default="{}", help='changes of every recipe as JSON, e.g. {"learning_rate": 0.003}')
    arguments = parser.parse_args()
    if unknown := set(arguments.recipes) - set(RECIPES):
        parser.error(f"unknown recipe {', '.join(sorted(unknown))}; allowed: {', '.join(RECIPES)}")
    params = load_params()
    verified(BASE_MODEL, "fetch_model"), verified(PREPARED, "prepare"), verified(TOKENIZED, "tokenize")
    quiet_libraries()
    rows = {split: Dataset.from_file(str(TOKENIZED / f"{split}.arrow")) for split in SPLITS}
    results: dict[str, dict[str, dict[str, float]]] = {}
    for seed in arguments.seeds:
        for recipe in arguments.recipes or RECIPES:
            changes = {**RECIPES[recipe], **json.loads(arguments.set)}
            changed = {**params.model_dump(), "seed": seed, "train": {**params.train.model_dump(), **changes}}
            losses = held_out_losses(Params.model_validate(changed), rows)
            results.setdefault(recipe, {})[str(seed)] = losses
            print(f"{recipe}, seed {seed}: {losses}", flush=True)
    print(table(results))
    if arguments.set == "{}" and arguments.seeds == SEEDS:
        settings = {
            "epochs": params.train.num_train_epochs,
            "max_steps": params.train.max_steps,
            "rows_a_step": params.train.batch_size * params.train.gradient_accumulation_steps,
        }
        write_json(RESULT, {**settings, "recipes": {**earlier(), **results}})


if __name__ == "__main__":
    with exit_on_input_error():
        main()
