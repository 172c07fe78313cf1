"""The benchmarks still run: on the toy, where their figures mean nothing."""

import re
import subprocess
import sys
from pathlib import Path

from tests.test_dvc import environment
from tests.toy import ROOT


def benchmark(folder: Path, *arguments: str, **variables: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env={**environment(), "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_speed(finished: Path) -> None:
    rows = finished / "toy/rows.json"
    output = benchmark(finished, "benchmarks.speed", "default", "--quick", "--rounds", "1", ALPACA=str(rows))
    assert re.search(r"^\| train, embedded default.* \| at least 4.5x \| (yes|NO) ", output, re.M)
    assert not (finished / "results/benchmark.json").exists(), "only a whole run writes it"


def test_quality(finished: Path) -> None:
    output = benchmark(finished, "benchmarks.quality", "prefix_tuning", "--seeds", "1", "--set", '{"max_steps": 2}')
    assert re.search(r"^\| prefix_tuning \| \d\.\d{3} \| \d\.\d{3} \| \d\.\d{3} \|$", output, re.M)
    assert not (finished / "results/quality.json").exists(), "only a whole run writes it"
