"""A search by Optuna in which each trial is a DVC experiment: `python -m experiments.search` (`make search`).

A place to start from: change what is searched in `changes`. Trials train and see the validation loss alone, so that the
test split stays unseen; the same trials again come out of DVC's run cache.
"""

import argparse
import json

import optuna

from experiments.queue import check_place, count, dvc, experiments, remove
from stages.workspace.guard import exit_on_input_error

NAME = "search"


def changes(trial: optuna.Trial) -> dict[str, float | int]:
    """The params that a trial tries, by dotted name."""
    return {
        "train.learning_rate": round(trial.suggest_float("learning_rate", 1e-3, 1e-1, log=True), 6),
        "train.num_virtual_tokens": trial.suggest_int("num_virtual_tokens", 5, 100, log=True),
    }


def main() -> None:
    """Run the trials one after another, then name the best one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", default="10")
    search(count("TRIALS", parser.parse_args().trials, "experiments"))


def search(trials: int) -> None:
    """As `main`.

    Raises:
        InputError: if an experiment fails.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    check_place()
    dvc("repro", "--quiet", "tokenize")
    remove(NAME)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(_validation_loss, n_trials=trials)
    best = f"{NAME}-{study.best_trial.number + 1}"
    print(f"\nbest: {best}, validation loss {study.best_value:.4f}, {json.dumps(study.best_params)}")
    print(f"its params and its prompt: dvc exp apply {best}; then its place on the test split: dvc repro")


def _validation_loss(trial: optuna.Trial) -> float:
    name = f"{NAME}-{trial.number + 1}"
    settings = [part for key, value in changes(trial).items() for part in ("-S", f"{key}={value}")]
    dvc("exp", "run", "--temp", "--name", name, *settings, "train")
    return next(run.metrics["validation"] for run in experiments(NAME) if run.name == name)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
