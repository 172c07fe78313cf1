"""The last lines of `make repro`: what came out, and where it lies. `python -m softprompt.evaluation.headline`"""

import json
from typing import Any

from softprompt.config import load_params
from softprompt.runtime.errors import InputError
from softprompt.runtime.guard import exit_on_input_error
from softprompt.runtime.outputs import required
from softprompt.runtime.paths import ADAPTER, RESULTS

NAMES = {"base": "base model", "hard": "hard prompt", "tuned": "tuned prompt"}
METRICS = RESULTS / "metrics.json"


def headline(metrics: dict[str, Any]) -> str:
    """The losses as a table in Markdown, readable in a terminal as well, and the verdict with its interval."""
    lines = [
        f"Held-out loss on {metrics['rows']} test rows ({metrics['tokens']:,} answer tokens):",
        "",
        "| variant      | nats per token | perplexity | tuned minus it, 95% interval |",
        "|--------------|---------------:|-----------:|-----------------------------:|",
    ]
    for variant, name in NAMES.items():
        gap = metrics.get(f"tuned_minus_{variant}")
        loss, perplexity = metrics[variant]["loss"], metrics[variant]["perplexity"]
        lines.append(f"| {name:12} | {loss:14.3f} | {perplexity:10.2f} | {shown(gap) if gap else '':>28} |")
    lines += ["", verdict_line(metrics)]
    if metrics.get("general"):
        lines.append(out_of_domain_line(metrics["general"]))
    return "\n".join(lines)


def shown(gap: dict[str, float]) -> str:
    """A difference with its interval."""
    return f"{gap['mean']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]"


def verdict_line(metrics: dict[str, Any]) -> str:
    """Whether the tuned prompt is better than the hard one, and the interval that says so."""
    return (
        f"Verdict: {metrics['verdict']}. Against the hard prompt, the tuned prompt's loss is "
        f"{shown(metrics['tuned_minus_hard'])} nats per token."
    )


def out_of_domain_line(general: dict[str, Any]) -> str:
    """What the tuned prompt does to out-of-domain text."""
    gap = general["tuned_minus_base"]
    effect = "harms" if gap["low"] > 0 else "helps there too" if gap["high"] < 0 else "no evidence of a change"
    return f"On out-of-domain text: {effect}. Against the base model, its loss is {shown(gap)} nats per token."


def short_headline(metrics: dict[str, Any]) -> dict[str, Any]:
    """What `dvc metrics show` and `dvc exp show` have columns for: few enough for a terminal."""
    losses = {variant: metrics[variant]["loss"] for variant in NAMES}
    return {**losses, "tuned_minus_hard": metrics["tuned_minus_hard"]["mean"], "verdict": metrics["verdict"]}


def main() -> None:
    """Print the headline of results/metrics.json.

    Raises:
        InputError: where `runtime.require` wants a tuned prompt that is better than the hard one, and it is not.
    """
    params = load_params()
    metrics = json.loads(required(METRICS, "evaluate").read_text(encoding="utf-8"))
    print(f"\n{headline(metrics)}\n")
    print(f"report {RESULTS}/report.html · metrics {METRICS} · rows {RESULTS}/predictions.parquet · adapter {ADAPTER}")
    if params.runtime.require and metrics["verdict"] != "helps":
        raise InputError(
            "runtime.require: the tuned prompt has to be better than the hard one, and the interval of the difference "
            f"does not say so ({shown(metrics['tuned_minus_hard'])}); {RESULTS}/report.html has the reasons"
        )


if __name__ == "__main__":
    with exit_on_input_error():
        main()
