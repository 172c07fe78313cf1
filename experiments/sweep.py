"""Run a sweep of this folder, then show what it found: `python -m experiments.sweep NAME` (`make sweep NAME=…`)."""

import argparse
import subprocess
from pathlib import Path

from experiments.page import lines, page
from experiments.queue import check_place, count, dvc, experiments, remove
from experiments.summary import summary
from stages.cli.table import table
from stages.workspace.errors import InputError
from stages.workspace.guard import exit_on_input_error
from stages.workspace.outputs import output_file
from stages.workspace.paths import RESULTS

HERE = Path(__file__).parent


def main() -> None:
    """Queue the experiments, run them, `--jobs` at a time, and write results/sweep-NAME.html."""
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
    dvc("repro", "--quiet", "tokenize", "fetch_general")  # once, before several experiments at a time ask for it
    remove(name)
    if subprocess.call(["bash", scripts[name]]):
        raise InputError(f"{scripts[name].relative_to(HERE.parent)} failed, see above")
    dvc("exp", "run", "--run-all", "--jobs", str(at_once))
    runs = experiments(name)
    if not (done := [run for run in runs if run.done]):
        raise InputError(f"no experiment named {name}-1, {name}-2, … was completed")
    result = summary(done)
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], text=True).strip()
    target = RESULTS / f"sweep-{name}.html"
    with output_file(target) as file:
        file.write_text(page(name, question, command, commit, result), encoding="utf-8")
    print(f"\n{question}\n\n{table(lines(result), texts=2)}\n\n{target}")
    if failed := [run.name for run in runs if not run.done]:
        raise InputError(*(f"{run} is not done; its log: dvc queue logs {run}" for run in failed))


if __name__ == "__main__":
    with exit_on_input_error():
        main()
