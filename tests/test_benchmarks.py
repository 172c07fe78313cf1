"""The benchmarks still run: on the toy, where their figures mean nothing."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import rows, search
from benchmarks.gpu import table
from benchmarks.speed import machine
from tests.clones import OURS, environment
from tests.gguf_file import write_gguf
from tests.toy import ROOT

pytestmark = pytest.mark.slow


def run(folder: Path, *arguments: str, **variables: Path | str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env={**environment(), "PYTHONPATH": OURS, **{name: str(path) for name, path in variables.items()}},
        capture_output=True,
        text=True,
    )


def benchmark(folder: Path, *arguments: str, **variables: Path | str) -> str:
    """Uncompiled: compiling takes minutes, and a C++ compiler."""
    result = run(folder, *arguments, **variables, TORCH_COMPILE_DISABLE="1")
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_speed(finished_project: Path) -> None:
    """A case that is measured again leaves the others."""
    alpaca, result = finished_project / "toy/rows.json", finished_project / "results/benchmark.json"
    other = {"rounds": 3, "table": [], "measurements": []}
    result.write_text(json.dumps({"machine": machine(), "cases": {"default": other, "tokenize": other}}))
    output = benchmark(finished_project, "benchmarks.speed", "default", "--rounds", "1", ALPACA=alpaca)
    cases = json.loads(result.read_text(encoding="utf-8"))["cases"]
    assert list(cases) == ["default", "tokenize"]
    assert cases["tokenize"] == other
    (line,) = cases["default"]["table"]
    sides = ("baseline", "baseline_helped", "baseline_compiled", "ours", "fastest")
    assert all(line[side] > 0 for side in sides)
    assert re.search(r"^\| train, embedded default.* \| [\d.]+x +\| [\d.]+ to [\d.]+ +\|", output, re.M)
    *_, ours, fastest = (measurement["rounds"][0] for measurement in cases["default"]["measurements"])
    assert (ours["cpu_matmul"], ours["torch_compile"]) == ("onednn", False)
    assert fastest["cpu_matmul"] in ("onednn", "mkl")
    assert fastest["torch_compile"] is True
    assert str(finished_project) not in json.dumps(cases)


def test_a_quick_run_writes_nothing(finished: Path) -> None:
    alpaca = finished / "toy/rows.json"
    output = benchmark(finished, "benchmarks.speed", "evaluation", "--quick", "--rounds", "1", ALPACA=alpaca)
    assert re.search(r"^\| evaluation loss, 32 rows +\| rows/s .* \| [\d.]+x +\|", output, re.M)
    assert not (finished / "results/benchmark.json").exists()


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


def test_search(
    finished_project: Path, toy_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gemma = finished_project / "gemma.gguf"
    write_gguf(toy_model, gemma)
    monkeypatch.setattr(search, "GEMMA", gemma)
    for module in (search, rows):
        monkeypatch.setattr(module, "ALPACA", finished_project / "toy/rows.json")
    monkeypatch.setattr(search, "GEMMA_TEMPLATE", "Q: {instruction} A: ")
    monkeypatch.setattr(search, "STEPS", 2)
    few = [("prompt_tuning", "default", {}), ("prompt_tuning", "4 steps", {"max_steps": 4})]
    monkeypatch.setattr(search, "candidates", lambda: few)
    monkeypatch.setattr(sys, "argv", ["search", "Gemma, Alpaca", "SmolLM2, Alpaca"])
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    search.main()
    output, losses = capsys.readouterr().out, json.loads(search.RESULT.read_text(encoding="utf-8"))["losses"]
    assert list(losses["prompt_tuning"]) == ["default", "4 steps"]
    assert all(set(of) == {"Gemma, Alpaca", "SmolLM2, Alpaca"} for of in losses["prompt_tuning"].values())
    assert len(set(losses["prompt_tuning"]["default"].values())) == 2, "another model, another loss"
    assert re.search(r"^\| prompt_tuning +\| 4 steps +\| +[+-]0\.\d{3} \| +[+-]0\.\d{3} \|$", output, re.M)

    def again(change: object) -> float:
        raise AssertionError("what was measured is not measured again")

    monkeypatch.setattr(search, "validation_loss", again)
    search.main()
    assert search.table(losses) in capsys.readouterr().out
