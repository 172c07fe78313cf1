"""The table: a line for each target, printed as Markdown."""

from dataclasses import asdict, dataclass
from typing import Any

from softprompt.runtime.markdown import table


@dataclass(frozen=True)
class Line:
    """What one target asks for, and what was measured.

    Attributes:
        work: what was done.
        unit: of the figures.
        baseline: the usual way; None where there is no such figure.
        baseline_helped: the usual way with an advantage that is not the engine's: in training our matrix products, in
            evaluation length-grouped batches, in generation batches at all, in tokenizing processes.
        baseline_compiled: the usual way under torch.compile.
        ours: this pipeline, by its defaults.
        fastest: this pipeline by `cpu_matmul: auto` and `train.torch_compile: true`.
        ratios: ours (by the defaults) by the baseline's, the least and the most of all rounds.
        target: in words; "" where there is none.
        reached: None where there is no target.
        note: what a reader has to know about the figures.
    """

    work: str
    unit: str
    baseline: float | None
    baseline_helped: float | None
    baseline_compiled: float | None
    ours: float
    fastest: float | None = None
    ratios: tuple[float, float] | None = None
    target: str = ""
    reached: bool | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours by the baseline's."""
        return self.ours / self.baseline if self.baseline else None

    def as_json(self) -> dict[str, Any]:
        """All figures, with the ratio."""
        return {**asdict(self), "ratio": self.ratio}


def markdown(lines: list[Line]) -> str:
    """The table, and under it the notes."""
    sides = ["baseline", "helped", "compiled", "ours", "fastest"]
    header = ["work", "unit", *sides, "ratio", "of rounds", "target", "reached"]
    made = table([header, *map(_cells, lines)], texts=len(header))
    notes = [f"- {line.work}: {line.note}" for line in lines if line.note]
    return "\n".join([made, "", *notes]) if notes else made


def _cells(line: Line) -> list[str]:
    sides = (line.baseline, line.baseline_helped, line.baseline_compiled, line.ours, line.fastest)
    figures = [_number(value) for value in sides]
    ratios = [
        f"{line.ratio:.2f}x" if line.ratio else "-",
        "{:.2f} to {:.2f}".format(*line.ratios) if line.ratios else "",
    ]
    reached = "" if line.reached is None else "yes" if line.reached else "NO"
    return [line.work, line.unit, *figures, *ratios, line.target, reached]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
