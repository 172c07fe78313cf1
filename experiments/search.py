"""A search by Optuna in which each trial is a DVC experiment: `python -m experiments.search` (`make search`).

A place to start from: change what is searched in `changes`. Trials train and see the validation loss alone, so that the
test split stays unseen; the same trials again are found among the experiments.
"""

import argparse
import json

import optuna

from experiments.runs import Runs, check_place, count, dvc, experiments
from softprompt.runtime.errors import InputError
from softprompt.runtime.guard import exit_on_input_error

NAME = "search"


def changes(trial: optuna.Trial) -> dict[str, float | int]:
    """The params that a trial tries, by dotted name."""
    return {
        "train.learning_rate": round(trial.suggest_float("learning_rate", 1e-3, 0.5, log=True), 6),
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
    runs, names = Runs(NAME, "train"), list[str]()

    def validation_loss(trial: optuna.Trial) -> float:
        overrides = [f"{key}={value}" for key, value in changes(trial).items()]
        name, done = runs.name_for(overrides)
        if not done and (fault := runs.run(name, overrides)):
            raise InputError(f"{name} {fault}")
        names.append(name)
        loss = next(run.metrics["validation"] for run in experiments(NAME) if run.name == name)
        print(f"{name}: validation loss {loss:.4f}", flush=True)
        return loss

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(validation_loss, n_trials=trials)
    best = names[study.best_trial.number]
    print(f"\nbest: {best}, validation loss {study.best_value:.4f}, {json.dumps(study.best_params)}")
    print(
        f"its params and its prompt, on a branch: dvc exp branch {best} {best}-branch && git switch {best}-branch && "
        "dvc checkout; then its place on the test split: dvc repro"
    )


if __name__ == "__main__":
    with exit_on_input_error():
        main()
