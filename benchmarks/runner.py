"""Measurements in processes of their own, the sides in turn, and their medians."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

Measurement = dict[str, Any]  # arguments of a function in `benchmarks.measure`, its name as "kind"
Figures = dict[str, Any]


class Runner:
    """Runs measurements; each is run once however many lines of the table ask for it.

    Every measurement has a fresh process: what one left in an allocator or a thread pool must not help or harm the
    next. The sides alternate, so that a slow minute of the machine meets all of them.

    Args:
        folder: for what measurements need on disk.
        rounds: how often each is repeated.
        quick: whether cases shall have as few rows as show that everything works.
    """

    def __init__(self, folder: Path, rounds: int, quick: bool = False) -> None:
        self.folder, self.rounds, self.quick = folder, rounds, quick
        self.done: dict[str, list[Figures]] = {}
        self.asked: dict[str, None] = {}

    def medians(self, *measurements: Measurement) -> list[Figures]:
        """The median of each figure of each measurement over the rounds; what is no number is the first round's."""
        new = [measurement for measurement in measurements if json.dumps(measurement) not in self.done]
        for number in range(self.rounds):
            for measurement in new:
                figures = self.once(measurement, number)
                self.done.setdefault(json.dumps(measurement), []).append(figures)
                _show(measurement, number, figures)
        self.asked |= dict.fromkeys(json.dumps(measurement) for measurement in measurements)
        return [_median(self.done[json.dumps(measurement)]) for measurement in measurements]

    def once(self, measurement: Measurement, seed: int = 0) -> Figures:
        """One round of `measurement`, in a process of its own."""
        figures = self.folder / "figures.json"
        run_module("benchmarks.measure", json.dumps({**measurement, "seed": seed}), str(figures))
        return json.loads(figures.read_text(encoding="utf-8"))

    def record(self) -> list[dict[str, Any]]:
        """Every measurement that was asked for since the last call, with the figures of every round."""
        record = []
        for name in self.asked:
            rounds = [
                {key: figures[key] for key in figures.keys() - {"answers", "losses"}} for figures in self.done[name]
            ]
            measurement = json.loads(name.replace(f"{self.folder}/", ""))
            record.append({**measurement, "rounds": [dict(sorted(figures.items())) for figures in rounds]})
        self.asked = {}
        return record


def run_module(module: str, *arguments: str, folder: Path | None = None) -> None:
    """Run `python -m module` of this repository in `folder` (None: here), and stop where it fails.

    Raises:
        SystemExit: with its status; what went wrong stands on stderr.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parent.parent),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",  # as the stages have it
    }
    command = [sys.executable, "-m", module, *arguments]
    status = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=False).returncode
    if status:
        sys.exit(f"error: {module} ended with status {status} {' '.join(arguments)}")


def _median(rounds: list[Figures]) -> Figures:
    return {"rounds": [figures.get("rows_per_second") for figures in rounds]} | {
        name: statistics.median(figures[name] for figures in rounds) if isinstance(value, int | float) else value
        for name, value in rounds[0].items()
    }


def _show(measurement: Measurement, number: int, figures: Figures) -> None:
    what = ", ".join(f"{name} {value}" for name, value in measurement.items() if name not in ("kind", "rows", "model"))
    shown = ", ".join(
        f"{name} {value:,.3f}" if isinstance(value, float) else f"{name} {value:,}"
        for name, value in figures.items()
        if isinstance(value, int | float)
    )
    print(f"  round {number + 1}: {measurement['kind']} ({what}): {shown}", flush=True)
