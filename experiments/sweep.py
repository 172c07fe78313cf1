"""Run a sweep of this folder, then show what it found: `python -m experiments.sweep NAME` (`make sweep NAME=…`)."""

import argparse
import shlex
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from experiments.page import lines, page
from experiments.runs import Runs, check_place, count, dvc, experiments, grid, params_with
from experiments.summary import summary
from softprompt.provenance.origin import origin_of_a_run
from softprompt.report.seeds import SEEDS, trained_as, write_seeds
from softprompt.runtime.errors import InputError
from softprompt.runtime.guard import exit_on_input_error
from softprompt.runtime.markdown import table
from softprompt.runtime.outputs import output_file
from softprompt.runtime.paths import RESULTS

HERE = Path(__file__).parent
NOT_TRAINED = ("seed", "evaluate", "general", "runtime")  # of params.yaml, what no other training is made by


def main() -> None:
    """Run the experiments that are not done, `--jobs` at a time, and write results/sweep-NAME.html."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--jobs", default="2")
    arguments = parser.parse_args()
    sweep(arguments.name, arguments.jobs)


def sweep(name: str, jobs: str) -> None:
    """As `main`.

    Raises:
        InputError: if there is no such sweep, or an experiment of it failed. The page is of the others then.
    """
    scripts = {path.stem: path for path in sorted(HERE.glob("*.sh"))}
    if name not in scripts:
        raise InputError(f"NAME is '{name}'; allowed: {' | '.join(scripts)}, or another file in experiments/")
    check_place()
    at_once = count("JOBS", jobs, "experiments that run at once")
    question, command = scripts[name].read_text(encoding="utf-8").strip().removeprefix("# ").split("\n", 1)
    overrides, stage = _parsed(name, command)
    changes = grid(overrides)
    dvc("repro", "--quiet", "tokenize", "fetch_general")  # once, before several experiments at a time ask for it
    # Of the workspace as the experiments find it: it may be another one when they are done.
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], text=True).strip()
    trained = trained_as(origin_of_a_run())
    of_seeds_alone = trained_alike(changes)
    runs = Runs(name, stage)
    planned = [(*runs.name_for(change), change) for change in changes]
    if before := [one for one, is_done, _ in planned if is_done]:
        print(f"done before: {', '.join(before)}")
    missing = [(one, change) for one, is_done, change in planned if not is_done]
    failed = _run(runs, missing, at_once)
    order = [one for one, _, _ in planned]
    done = sorted((run for run in experiments(name) if run.name in order), key=lambda run: order.index(run.name))
    if not done:
        raise InputError(*failed, f"no experiment of {name} was completed")
    result = summary(done)
    target = RESULTS / f"sweep-{name}.html"
    with output_file(target) as file:
        file.write_text(page(name, question, command, commit, result), encoding="utf-8")
    print(f"\n{question}\n\n{table(lines(result), texts=2)}\n\n{target}")
    if of_seeds_alone and len(result.chosen.tests) > 1:
        write_seeds(trained, commit, result.chosen.tests, result.chosen.test)
        print(f"{SEEDS} has it for the report: dvc repro report")
    if failed:
        raise InputError(*failed)


def trained_alike(changes: Sequence[Sequence[str]]) -> bool:
    """Whether the trainings differ from the workspace's in nothing but the seed."""
    every = [params_with(change) for change in [[], *changes]]
    return len({repr({key: value for key, value in one.items() if key not in NOT_TRAINED}) for one in every}) == 1


def _parsed(name: str, command: str) -> tuple[list[str], str]:
    """Overrides and stage of the sweep's command, which is DVC's: by hand it does the same through the queue."""
    parser = argparse.ArgumentParser(exit_on_error=False, add_help=False)
    parser.add_argument("--queue", action="store_true")
    parser.add_argument("-n", "--name")
    parser.add_argument("-S", "--set-param", action="append", default=[])
    parser.add_argument("stage", nargs="?")  # a required one that is missing would exit here, in Python 3.11
    try:
        words = shlex.split(command, comments=True)
        found, other = parser.parse_known_args(words[3:])
    except (ValueError, argparse.ArgumentError) as error:
        raise InputError(f"experiments/{name}.sh: {error}; allowed: {_form(name)}") from None
    if words[:3] != ["dvc", "exp", "run"] or found.name != name or not found.stage or other:
        raise InputError(f"experiments/{name}.sh: not a sweep; allowed: a question, then {_form(name)}")
    return found.set_param, found.stage


def _form(name: str) -> str:
    return f"one command: dvc exp run --queue --name {name} -S KEY=VALUE,VALUE … STAGE"


def _run(runs: Runs, missing: Sequence[tuple[str, Sequence[str]]], at_once: int) -> list[str]:
    """What went wrong, a line each."""
    pool = ThreadPoolExecutor(at_once)
    tasks = {one: pool.submit(runs.run, one, change) for one, change in missing}
    try:
        return [f"{one} {fault}" for one, task in tasks.items() if (fault := task.result())]
    except KeyboardInterrupt:
        raise KeyboardInterrupt("what is done is kept, and checkpoints of the others") from None
    finally:
        pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
