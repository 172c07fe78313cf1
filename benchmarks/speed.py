"""Speed against what a user would otherwise write: `make benchmark`, or `python -m benchmarks.speed [NAME …]`.

The baseline is PEFT's own forward under transformers' `Trainer`: dynamic padding, the same shuffled batches, precision
and threads. In a second column it is helped, see `benchmarks.table.Line`. Needs what `make repro` makes, and an Alpaca
JSON file: ALPACA=path (default: ../shared/data/alpaca_zh_demo.json).
"""

import argparse
import importlib.metadata
import json
import os
import tempfile
from pathlib import Path

from benchmarks.cases import CASES
from benchmarks.rows import check_alpaca
from benchmarks.runner import Runner
from benchmarks.table import Line, markdown
from softprompt.config import load_params
from softprompt.runtime.guard import exit_on_input_error
from softprompt.runtime.outputs import verified, write_json
from softprompt.runtime.paths import BASE_MODEL, RESULTS, TOKENIZED

RESULT = RESULTS / "benchmark.json"


def main() -> None:
    """Measure, print the table and put its lines into results/benchmark.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description="Speed against PEFT and Trainer.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}; none: all")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is measured (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="few rows, to see that it works; the figures mean nothing")
    options = parser.parse_args()
    if unknown := set(options.names) - set(CASES):
        parser.error(f"no {', '.join(sorted(unknown))}; allowed: {', '.join(CASES)}")
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: at least 1")
    with exit_on_input_error():
        verified(BASE_MODEL, "fetch_model")
        verified(TOKENIZED, "tokenize")
        check_alpaca()
        measure(options.names or list(CASES), options.rounds, options.quick)


def measure(names: list[str], rounds: int, quick: bool) -> None:
    """Run the cases `names`, show their lines and keep them, beside those that this machine measured before."""
    kept = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
    cases = kept["cases"] if kept.get("machine") == machine() else {}
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        runner = Runner(Path(folder), rounds, quick)
        for name in names:
            print(f"{name}:", flush=True)
            table = CASES[name](runner)
            lines += table
            cases[name] = {
                "rounds": rounds,
                "table": [line.as_json() for line in table],
                "measurements": runner.record(),
            }
            if not quick:
                write_json(
                    RESULT, {"machine": machine(), "cases": {name: cases[name] for name in CASES if name in cases}}
                )
    print(f"\n{markdown(lines)}\n")
    print(f"benchmark: {RESULT} is left as it is" if quick else f"benchmark: written to {RESULT}")


def machine() -> dict[str, str | int]:
    """What the figures belong to."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = next((line.partition(":")[2].strip() for line in cpu.splitlines() if line.startswith("model name")), "?")
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft", "datasets")}
    return {"cpu": model, "cores": os.cpu_count() or 0, "threads": load_params().threads, **versions}


if __name__ == "__main__":
    main()
