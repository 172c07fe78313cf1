"""Defaults by validation: one change of a method's defaults at a time, on two models and two data sets.

`GEMMA=path/to/gemma-3-270m.gguf ALPACA=path/to/alpaca.json python -m benchmarks.search [WORK …]`, after `make repro`.
Prints a table and writes results/search.json after each run; what is in there is not run again. Test rows are not
looked at, so that they stay rows that chose nothing.
"""

import argparse
import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from datasets import Dataset

from benchmarks.quality import here, trained
from benchmarks.rows import ALPACA, Sections, alpaca_params, check_alpaca, prepare_project
from benchmarks.speed import machine
from softprompt.config import load_params
from softprompt.config.train import Train
from softprompt.runtime.errors import InputError
from softprompt.runtime.guard import exit_on_input_error
from softprompt.runtime.libraries import quiet_libraries
from softprompt.runtime.markdown import table as markdown_table
from softprompt.runtime.outputs import verified, write_json
from softprompt.runtime.paths import BASE_MODEL, RESULTS, TOKENIZED
from softprompt.training.methods import METHODS

RESULT = RESULTS / "search.json"
GEMMA = Path(os.environ.get("GEMMA", "data/local/gemma-3-270m-q4_k_m.gguf"))
SEED, STEPS, ALPACA_LENGTH = 1, 40, 64
# Of each: whether Gemma is the model, and whether Alpaca's are the rows; otherwise the defaults are.
WORKS = {
    "SmolLM2, conversations": (False, False),
    "Gemma, Alpaca": (True, True),
    "SmolLM2, Alpaca": (False, True),
    "Gemma, conversations": (True, False),
}
GEMMA_TEMPLATE = "Question: {instruction}\nAnswer: "  # it is a base model and has no chat template
LENGTHS = {"prompt_tuning": (10, 50), "prefix_tuning": (128, 256)}

Results = dict[str, dict[str, dict[str, float]]]  # validation loss by method, change and work


def candidates() -> list[tuple[str, str, dict[str, Any]]]:
    """Method, name and values of each change of the `train` section, the ones that matter most first.

    `times` changes the method's own learning rate.
    """
    rates: dict[str, dict[str, Any]] = {
        "default": {},
        "learning rate / 3": {"times": 1 / 3},
        "learning rate x 3": {"times": 3.0},
    }
    others: dict[str, dict[str, Any]] = {
        f"{2 * STEPS} steps": {"max_steps": 2 * STEPS},
        "no warm-up": {"warmup_ratio": 0.0},
        "warm-up 0.2": {"warmup_ratio": 0.2},
        "cosine": {"lr_scheduler_type": "cosine"},
        "constant after warm-up": {"lr_scheduler_type": "constant_with_warmup"},
    }
    return [
        *((method, name, change) for method in (*LENGTHS, "lora") for name, change in rates.items()),
        *(
            (method, f"{length} tokens", {"num_virtual_tokens": length})
            for method, lengths in LENGTHS.items()
            for length in lengths
        ),
        *((method, name, change) for name, change in others.items() for method in LENGTHS),
    ]


def prepare_work(folder: Path, gemma: bool, alpaca: bool) -> None:
    """A project in `folder`, tokenized."""
    changes: Sections = {"tokenize": {}}
    if alpaca:  # 8 rows a step, as the reference system has
        changes = alpaca_params(ALPACA, max_length=ALPACA_LENGTH) | {"train": {"gradient_accumulation_steps": 1}}
    stages = ["fetch_data", "prepare", "tokenize"]
    if gemma:
        changes["model"] = {"source": str(GEMMA.resolve()), "sha256": None}
        changes["tokenize"] |= {"template": GEMMA_TEMPLATE}
        stages = ["fetch_model", *stages]
    prepare_project(folder, stages, changes)


def validation_loss(change: dict[str, Any]) -> float:
    """Of the project in the current folder, trained with its params but for `change`; in nats per label token.

    It is measured before training and at its end, and the lower one counts, as for every kept prompt.
    """
    params = load_params()
    rows = {split: Dataset.from_file(f"{TOKENIZED}/{split}.arrow") for split in ("train", "validation")}
    values = {"max_steps": STEPS, **change, "init": None, "learning_rate": None}
    times = values.pop("times", 1.0)
    train = Train.model_validate({**params.train.model_dump(), **values, "eval_steps": values["max_steps"]})
    _, progress = trained(params.model_copy(update={"seed": SEED, "train": train}), rows, times)
    return progress.best_loss


def table(results: Results) -> str:
    """Validation losses as Markdown: a method's default, then what each change adds to it."""
    works = [work for work in WORKS if any(work in losses for of in results.values() for losses in of.values())]
    lines = [["method", "change", *works]]
    for method, of_change in results.items():
        default = next(iter(of_change.values()))
        for place, (name, losses) in enumerate(of_change.items()):
            cells = [
                f"{losses[work] - (default[work] if place else 0):{'+' if place else ''}.3f}" if work in losses else ""
                for work in works
            ]
            lines.append([method, name, *cells])
    return markdown_table(lines, texts=2)


def settings() -> dict[str, Any]:
    """What all losses of a file have in common; where it is another, they are measured anew."""
    train = load_params().train.model_dump(mode="json", exclude={"gradient_accumulation_steps"})
    rates = {name: method.learning_rates["adamw_torch"] for name, method in METHODS.items()}
    kept = {"seed": SEED, "steps": STEPS, "alpaca_length": ALPACA_LENGTH}
    return {"machine": machine(), **kept, "learning_rates": rates, "train": train}


def earlier(result: Path) -> dict[str, Any]:
    """What the file `result` has of the same machine and settings: `works`, what each is, and `losses`.

    Raises:
        InputError: if it is no JSON.
    """
    try:
        kept = json.loads(result.read_text(encoding="utf-8")) if result.exists() else {}
    except ValueError as error:
        raise InputError(f"{result} can't be read ({error}); mend it, or move it away") from None
    if {key: kept.get(key) for key in settings()} != settings():
        return {"works": {}, "losses": {}}
    return {"works": kept["works"], "losses": kept["losses"]}


def search(work: str, result: Path) -> None:
    """Run every candidate on `work` that the file `result` lacks, in the project in the current folder."""
    found = earlier(result)
    losses, is_known = found["losses"], found["works"].get(work) == here()
    found["works"][work] = here()
    for method, name, change in candidates():
        of_work = losses.setdefault(method, {}).setdefault(name, {})
        if is_known and work in of_work:
            continue
        of_work[work] = validation_loss({"method": method, **change})
        print(f"{work}, {method}, {name}: {of_work[work]:.4f}", flush=True)
        write_json(result, {**settings(), **found})


def main() -> None:
    """Search and show the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description="Defaults by validation.")
    parser.add_argument(
        "works", nargs="*", metavar="WORK", help=f"of {', '.join(map(repr, WORKS))}; all if none is named"
    )
    works = parser.parse_args().works or list(WORKS)
    if unknown := set(works) - set(WORKS):
        parser.error(f"unknown work {', '.join(sorted(unknown))}; allowed: {', '.join(WORKS)}")
    verified(BASE_MODEL, "fetch_model")
    check_alpaca()
    if not GEMMA.is_file():
        raise InputError(
            f"{GEMMA} is missing: name a GGUF file of Gemma 3 270M, GEMMA=path; docs/engine.md says where it is"
        )
    quiet_libraries()
    result = RESULT.resolve()
    for work in works:
        with tempfile.TemporaryDirectory(prefix="search-") as folder:
            prepare_work(Path(folder) / "project", *WORKS[work])
            with contextlib.chdir(Path(folder) / "project"):
                search(work, result)
    print(table(earlier(result)["losses"]))


if __name__ == "__main__":
    with exit_on_input_error():
        main()
