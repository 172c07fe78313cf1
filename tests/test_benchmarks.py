"""The benchmarks still run: on the toy, where their figures mean nothing."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import table
from benchmarks.speed import machine
from tests.clones import environment
from tests.toy import ROOT


def run(folder: Path, *arguments: str, **variables: Path | str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env={**environment(), "PYTHONPATH": str(ROOT), **{name: str(path) for name, path in variables.items()}},
        capture_output=True,
        text=True,
    )


def benchmark(folder: Path, *arguments: str, **variables: Path | str) -> str:
    """Uncompiled: compiling takes minutes, and a C++ compiler."""
    result = run(folder, *arguments, **variables, TORCH_COMPILE_DISABLE="1")
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_speed(finished: Path) -> None:
    rows = finished / "toy/rows.json"
    output = benchmark(finished, "benchmarks.speed", "default", "--quick", "--rounds", "1", ALPACA=rows)
    assert re.search(r"^\| train, embedded default.* \| [\d.]+x +\| [\d.]+ to [\d.]+ +\|", output, re.M)
    assert not (finished / "results/benchmark.json").exists(), "a quick run writes nothing"


def test_a_case_that_is_measured_again_leaves_the_others(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, result = finished / "toy/rows.json", finished / "results/benchmark.json"
    monkeypatch.chdir(finished)
    other = {"rounds": 3, "table": [], "measurements": []}
    result.write_text(json.dumps({"machine": machine(), "cases": {"default": other, "tokenize": other}}))
    benchmark(finished, "benchmarks.speed", "default", "--rounds", "1", ALPACA=rows)
    cases = json.loads(result.read_text(encoding="utf-8"))["cases"]
    result.unlink()
    assert list(cases) == ["default", "tokenize"]
    assert cases["tokenize"] == other
    assert cases["default"]["table"][0]["ours"] > 0
    assert str(finished) not in json.dumps(cases)


def test_gpu(tmp_path: Path) -> None:
    """On a CPU where there is no GPU: what runs is the same."""
    result = tmp_path / "gpu.json"
    output = benchmark(ROOT, "benchmarks.gpu", str(result), "1", "3")
    assert re.search(r"^\| train, 16 rows .* \| ours, compiled +\| [\d,.]+ +\| [\d,]+ to ", output, re.M)
    found = json.loads(result.read_text(encoding="utf-8"))
    assert [len(case) for case in found["cases"].values()] == [3, 2]
    assert table(found) in output


def test_quality(finished: Path) -> None:
    changes = json.dumps({"max_steps": 2, "num_virtual_tokens": 160})
    output = benchmark(finished, "benchmarks.quality", "few_shot_4", "prefix_tuning", "--seeds", "1", "--set", changes)
    losses = r" +\d\.\d{3} \| +\d\.\d{3} \| +\d\.\d{3} \|$"
    assert re.search(rf"^\| few_shot_4 +\| +\d+ \| +0 \|{losses}", output, re.M)
    assert re.search(rf"^\| prefix_tuning +\| +\d+ \| +[\d,]+ \|{losses}", output, re.M)
    assert not (finished / "results/quality.json").exists(), "only a whole run writes it"
