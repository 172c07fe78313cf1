"""What is measured: a function for each name that `python -m benchmarks.speed NAME` takes, giving lines of the table.

How many rows one measurement has is chosen so that the baseline takes 15 to 40 seconds on two cores; scoring 1,000 rows
takes longer.
"""

from collections.abc import Callable
from typing import Any

from benchmarks import rows
from benchmarks.runner import Measurement, Runner
from benchmarks.table import Line
from softprompt.config import load_params
from softprompt.runtime.paths import BASE_MODEL

BASE = BASE_MODEL.as_posix()
# The sides that are measured, by the figure of a `Line` that each gives.
SIDES = {
    "baseline": "peft",
    "baseline_helped": "peft, our products",
    "baseline_compiled": "peft, compiled",
    "ours": "ours",
    "fastest": "ours, fastest",
}
INFERENCE_SIDES = {"baseline": "peft", "baseline_helped": "peft, length-grouped", "ours": "ours"}
TOKENIZING_SIDES = {"baseline": "map", "baseline_helped": "map, workers", "ours": "ours"}


def default(runner: Runner) -> list[Line]:
    """The embedded default: short answers."""
    measured = _trained(runner, _training(runner, rows.DEFAULT_ROWS, batch_size=16, steps=4))
    return [_speed("train, embedded default, 20 virtual tokens, 16 rows", measured)]


def alpaca(runner: Runner) -> list[Line]:
    """Real instructions with long answers."""
    measured = _trained(runner, _alpaca(runner, 20))
    return [_speed("train, Alpaca, 256 tokens at most, 20 virtual tokens, 8 rows", measured)]


def alpaca100(runner: Runner) -> list[Line]:
    """The same with a long prompt."""
    measured = _trained(runner, _alpaca(runner, 100))
    return [_speed("train, Alpaca, 256 tokens at most, 100 virtual tokens, 8 rows", measured)]


def qwen(runner: Runner) -> list[Line]:
    """A large vocabulary. All rows have 256 tokens, so that the baseline has no padding either."""
    rows_path, model = _alpaca_rows(runner), _qwen(runner)
    training = _training(runner, rows_path, batch_size=8, steps=1, model=model, length=rows.MAX_LENGTH)
    measured = _trained(runner, training)
    mib = {side: figures["mib_above_weights"] for side, figures in measured.items()}
    work = "train, Qwen2.5-0.5B's architecture, 256 tokens, 20 virtual tokens, 8 rows"
    reached = mib["ours"] <= mib["baseline"] / 2
    return [
        _speed(work, measured, 1.8, "all rows have 256 tokens"),
        Line(f"{work}: peak memory", "MiB above the weights", **mib, target="at most 0.5x", reached=reached),
    ]


def limit(runner: Runner) -> list[Line]:
    """How near the machine's matrix products the training steps come, optimizer and data loading included."""
    works = {
        "embedded default": _training(runner, rows.DEFAULT_ROWS, batch_size=16, steps=4),
        "Alpaca": _alpaca(runner, 20),
    }
    lines = []
    for work, training in works.items():
        measured = _trained(runner, training)
        engine = measured["ours"]
        gemm = {"kind": "gemm", "model": BASE, "shapes": engine["shapes"]}
        (products,) = runner.medians(gemm)
        shares = {
            side: 100 * engine["useful_gflop"] / figures["seconds"] / products["fastest_gflops"]
            for side, figures in measured.items()
        }
        reached = max(shares["ours"], shares["fastest"]) >= 75
        note = (
            f"useful work at {engine['useful_gflop'] / engine['seconds']:.0f} GFLOP/s; matrix products of its shapes "
            f"{engine['shapes']} at {products['mkl_gflops']:.0f} with MKL (torch.mm), {products['onednn_gflops']:.0f} "
            f"with oneDNN, {products['fastest_gflops']:.0f} with the faster one at each shape, which is the limit "
            f"({products['cached_gflops']:.0f} if the processor's cache held every weight)"
        )
        name = f"distance to the limit, {work}"
        lines.append(Line(name, "% of it", **shares, target="at least 75%", reached=reached, note=note))
    return lines


def evaluation(runner: Runner) -> list[Line]:
    """The loss of 1,000 rows."""
    count = 32 if runner.quick else 1000
    shared = {
        "rows": rows.DEFAULT_ROWS, "model": BASE, "virtual_tokens": 20, "batch_size": load_params().evaluate.batch_size,
        "count": count, "parts": runner.rounds,
    }  # fmt: skip
    measured = _medians(runner, {"kind": "evaluate", **shared}, INFERENCE_SIDES)
    note = f"each of the {runner.rounds} rounds has its part of the rows, the same one on all sides"
    return [_speed(f"evaluation loss, {count:,} rows", measured, 2.0, note)]


def generation(runner: Runner) -> list[Line]:
    """Greedy answers to 64 questions."""
    count, new = (8, 8) if runner.quick else (64, 48)
    shared = {
        "rows": rows.DEFAULT_ROWS, "model": BASE, "virtual_tokens": 20, "new_tokens": new, "count": count,
        "parts": runner.rounds,
    }  # fmt: skip
    measured = _medians(runner, {"kind": "generate", **shared}, INFERENCE_SIDES)
    one_by_one, batched, ours = (figures["answers"] for figures in measured.values())
    batched, ours = batched[:: runner.rounds], ours[:: runner.rounds]  # those that the first round has one by one
    note = (
        "each round has its part of the rows one by one; in the second column PEFT's `generate` has all at once. "
        f"Answers equal to those one by one: {_equal(one_by_one, ours)} of {len(one_by_one)} of ours, "
        f"{_equal(one_by_one, batched)} of PEFT's batched ones"
    )
    return [_speed(f"greedy generation, {count} rows x {new} tokens", measured, 6.0, note)]


def tokenize(runner: Runner) -> list[Line]:
    """The tokenize stage on many rows."""
    count = 2000 if runner.quick else 51_000
    project, data = runner.folder / "tokenize", runner.folder / "alpaca.json"
    if not project.exists():
        rows.many_alpaca_rows(data, count)
        rows.prepare_project(project, ("fetch_data", "prepare"), rows.alpaca_params(data, max_samples=count))
    shared = {"project": str(project), "max_length": rows.MAX_LENGTH, "workers": load_params().threads}
    measured = _medians(runner, {"kind": "tokenize", **shared}, TOKENIZING_SIDES)
    work = f"tokenize {measured['baseline']['row_count']:,.0f} Alpaca rows"
    baseline, with_workers, ours = (figures["seconds"] for figures in measured.values())
    note = f"whole processes; in the second column `map` has {shared['workers']} processes, as the stage has"
    return [
        _speed(work, measured, 5.0, note),
        Line(f"{work}: time", "s", baseline, with_workers, None, ours, target="under 20 s", reached=ours < 20),
    ]


CASES: dict[str, Callable[[Runner], list[Line]]] = {
    case.__name__: case for case in (default, alpaca, alpaca100, qwen, limit, evaluation, generation, tokenize)
}


def _training(runner: Runner, path: str, *, batch_size: int, steps: int, **more: Any) -> Measurement:
    """Training on `steps` optimizer steps' rows, on a side that is not said yet; see `benchmarks.training.train`."""
    settings = {"model": BASE, "rows": path, "virtual_tokens": 20, "accumulation": 1, "length": None, **more}
    count = batch_size * settings["accumulation"] * (2 if runner.quick else steps)
    return {"kind": "train", "batch_size": batch_size, "count": count, **settings}


def _qwen(runner: Runner) -> str:
    """The folder of a model of Qwen2.5-0.5B's architecture, written once."""
    folder = runner.folder / "qwen"
    if not folder.exists():
        runner.once({"kind": "write_qwen", "folder": str(folder)})
    return str(folder)


def _alpaca(runner: Runner, virtual_tokens: int) -> Measurement:
    return _training(runner, _alpaca_rows(runner), batch_size=8, steps=3, virtual_tokens=virtual_tokens)


def _alpaca_rows(runner: Runner) -> str:
    return str(rows.alpaca_project(runner.folder / "alpaca"))


def _medians(runner: Runner, measurement: Measurement, sides: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The figures of `measurement` on each of `sides`."""
    figures = runner.medians(*({"side": side, **measurement} for side in sides.values()))
    return dict(zip(sides, figures, strict=True))


def _trained(runner: Runner, training: Measurement) -> dict[str, dict[str, Any]]:
    """The figures of training on each side, which did the same work."""
    from benchmarks.training import check_losses

    measured = _medians(runner, training, SIDES)
    check_losses(list(measured.values()))
    return measured


def _speed(work: str, measured: dict[str, dict[str, Any]], target: float | None = None, note: str = "") -> Line:
    """A line of rows per second of each side, whose target is the ratio of ours to the baseline, at least."""
    speeds: dict[str, Any] = dict.fromkeys(SIDES) | {
        side: figures["rows_per_second"] for side, figures in measured.items()
    }
    rounds = zip(measured["ours"]["rounds"], measured["baseline"]["rounds"], strict=True)
    ratios = [ours / baseline for ours, baseline in rounds]
    return Line(
        work,
        "rows/s",
        **speeds,
        ratios=(min(ratios), max(ratios)),
        target="" if target is None else f"at least {target}x",
        reached=None if target is None else speeds["ours"] / speeds["baseline"] >= target,
        note=note,
    )


def _equal(answers: list, others: list) -> int:
    return sum(answer == other for answer, other in zip(answers, others, strict=True))
