"""Time and memory of `prepare` and `tokenize` by number of rows: `python -m benchmarks.scale [ROWS …]`.

Needs what `make repro` makes (models/base/). Generates rows, runs both stages on them in a folder of its own, prints a
table and writes results/scale.json and results/scale.svg. 5,000,000 rows take about 6 GB of disk and half an hour.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import vl_convert

from benchmarks.speed import machine
from softprompt.config import PARAMS_FILE
from softprompt.data.rows import RAW_SCHEMA, make_row
from softprompt.runtime.guard import exit_on_input_error
from softprompt.runtime.markdown import table as markdown_table
from softprompt.runtime.outputs import output_file, output_folder, verified, write_json
from softprompt.runtime.paths import BASE_MODEL, RAW, RESULTS

ROWS = [50_000, 500_000, 5_000_000]
STAGES = ["prepare", "tokenize"]
WORDS = ("a the of in to and what which where how is are does make take red blue old new river stone").split()  # noqa: SIM905 (one line)
PART = 50_000


def rows(count: int) -> Iterator[pa.Table]:
    """`count` rows of some 60 tokens, in parts. One in ten has an earlier question, half of those its answer too."""
    for start in range(0, count, PART):
        part = []
        for number in range(start, min(start + PART, count)):
            question = number // 20 if number % 10 == 0 else number
            answer = number // 20 if number % 20 == 0 else number
            part.append(make_row(f"{_words(question, 12)} {question}?", "", f"{_words(answer, 18)} {answer}.", "made"))
        yield pa.Table.from_pylist(part, schema=RAW_SCHEMA)


def _words(number: int, count: int) -> str:
    """As many words, the same for the same number, by a linear congruential generator."""
    words, state = [], number
    for _ in range(count):
        state = (state * 1103515245 + 12345) % 2**31
        words.append(WORDS[(state >> 16) % len(WORDS)])
    return " ".join(words)


def measured(command: list[str], folder: Path) -> dict[str, float]:
    """Seconds that `command` takes in `folder`, and the most memory that it and its children hold at once, in MiB.

    Memory is the proportional set size: pages that processes share count once.
    """
    begun, most = time.perf_counter(), 0
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    family = psutil.Process(process.pid)
    while process.poll() is None:
        held = 0
        for member in [family, *_children(family)]:
            try:
                held += member.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        most = max(most, held)
        time.sleep(0.25)
    if process.returncode:
        sys.exit(process.returncode)
    return {"seconds": time.perf_counter() - begun, "mib": most / 2**20}


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def measure(count: int) -> list[dict[str, Any]]:
    """Both stages on `count` rows."""
    here, base = Path.cwd(), verified(BASE_MODEL, "fetch_model").resolve()
    with tempfile.TemporaryDirectory(dir=here, prefix=".scale-") as name:
        folder = Path(name)
        shutil.copy(PARAMS_FILE, folder)
        (folder / BASE_MODEL).parent.mkdir()
        (folder / BASE_MODEL).symlink_to(base)
        with (
            output_folder(folder / RAW) as raw,
            pq.ParquetWriter(raw / "rows.parquet", RAW_SCHEMA) as writer,
        ):
            for part in rows(count):
                writer.write_table(part)
        return [
            {"stage": stage, "rows": count, **measured([sys.executable, "-m", f"stages.{stage}"], folder)}
            for stage in STAGES
        ]


def table(runs: list[dict[str, Any]]) -> str:
    """The runs as Markdown."""
    lines = [["stage", "rows", "seconds", "rows/s", "peak memory, MiB"]]
    for run in runs:
        rows, seconds = run["rows"], run["seconds"]
        figures = [f"{rows:,}", f"{seconds:,.1f}", f"{rows / seconds:,.0f}", f"{run['mib']:,.0f}"]
        lines.append([run["stage"], *figures])
    return markdown_table(lines, texts=1)


def chart(runs: list[dict[str, Any]]) -> str:
    """Time and memory by rows as SVG, both axes logarithmic: what is linear has the slope of the dotted line."""
    axis = {"values": sorted({run["rows"] for run in runs}), "format": "~s", "title": "rows"}
    x = {"field": "rows", "type": "quantitative", "scale": {"type": "log"}, "axis": axis}
    color = {"field": "stage", "type": "nominal", "legend": {"title": None}}
    first = min(runs, key=lambda run: run["rows"])
    linear = [
        {"rows": run["rows"], "seconds": first["seconds"] * run["rows"] / first["rows"]}
        for run in runs
        if run["stage"] == first["stage"]
    ]

    def panel(field: str, title: str) -> dict[str, Any]:
        y = {"field": field, "type": "quantitative", "scale": {"type": "log"}, "axis": {"title": title}}
        line = {"mark": {"type": "line", "point": True}, "encoding": {"x": x, "y": y, "color": color}}
        slope = {
            "data": {"values": linear},
            "mark": {"type": "line", "strokeDash": [2, 3], "color": "gray"},
            "encoding": {"x": x, "y": {**y, "field": "seconds"}},
        }
        return {"width": 260, "height": 220, "layer": [line, slope] if field == "seconds" else [line]}

    spec = {
        "data": {"values": runs},
        "background": "white",
        "hconcat": [panel("seconds", "seconds"), panel("mib", "peak memory, MiB")],
    }
    return vl_convert.vegalite_to_svg(spec)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, default=ROWS)
    counts = parser.parse_args().rows
    runs = [run for count in counts for run in measure(count)]
    print(table(runs))
    if counts == ROWS:
        write_json(RESULTS / "scale.json", {"machine": machine(), "runs": runs})
        with output_file(RESULTS / "scale.svg") as path:
            path.write_text(chart(runs), encoding="utf-8")


if __name__ == "__main__":
    with exit_on_input_error():
        main()
