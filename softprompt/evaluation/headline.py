"""The last lines of `make repro`: what came out, and where it lies. `python -m softprompt.evaluation.headline`"""

from typing import Any

from softprompt.config import load_params
from softprompt.evaluation.names import NAMES, measured, tuned_name
from softprompt.evaluation.recorded import METRICS, read_metrics
from softprompt.runtime.errors import InputError
from softprompt.runtime.guard import exit_on_input_error
from softprompt.runtime.markdown import table
from softprompt.runtime.paths import ADAPTER, RESULTS


def headline(metrics: dict[str, Any], tuned: str = NAMES["tuned"]) -> str:
    """The losses as a table in Markdown, readable in a terminal as well, and the verdict with its interval.

    Args:
        metrics: results/metrics.json.
        tuned: what the tuned variant is called.
    """
    names = NAMES | {"tuned": tuned}
    losses = [["variant", "nats per token", "perplexity", "tuned minus it, 95% interval"]]
    for variant in measured(metrics):
        gap = metrics.get(f"tuned_minus_{variant}")
        loss, perplexity = metrics[variant]["loss"], metrics[variant]["perplexity"]
        losses.append([names[variant], f"{loss:.3f}", f"{perplexity:.2f}", shown(gap) if gap else ""])
    counts = f"{metrics['rows']} test rows ({metrics['tokens']:,} answer tokens)"
    lines = [f"Held-out loss on {counts}:", "", table(losses, texts=1), "", verdict_line(metrics, tuned)]
    if metrics.get("general"):
        lines.append(out_of_domain_line(metrics["general"]))
    return "\n".join(lines)


def shown(gap: dict[str, float]) -> str:
    """A difference with its interval."""
    return f"{gap['mean']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]"


def verdict_line(metrics: dict[str, Any], tuned: str) -> str:
    """Whether the tuned one is better than the strongest baseline, and the interval that says so."""
    return (
        f"Verdict: {metrics['verdict']}. Against the {NAMES[metrics['strongest']]}, the strongest baseline without "
        f"training, the {tuned}'s loss is {shown(against_strongest(metrics))} nats per token."
    )


def against_strongest(metrics: dict[str, Any]) -> dict[str, float]:
    """The tuned prompt's difference to the strongest baseline."""
    return metrics[f"tuned_minus_{metrics['strongest']}"]


def out_of_domain_line(general: dict[str, Any]) -> str:
    """What the tuned prompt does to out-of-domain text."""
    gap = general["tuned_minus_base"]
    effect = "harms" if gap["low"] > 0 else "helps there too" if gap["high"] < 0 else "no evidence of a change"
    return f"On out-of-domain text: {effect}. Against the base model, its loss is {shown(gap)} nats per token."


def short_headline(metrics: dict[str, Any]) -> dict[str, Any]:
    """What `dvc metrics show` and `dvc exp show` have columns for: few enough for a terminal."""
    losses = {variant: metrics[variant]["loss"] for variant in measured(metrics)}
    return {**losses, "verdict": metrics["verdict"]}


def main() -> None:
    """Print the headline of results/metrics.json.

    Raises:
        InputError: if the file is missing or damaged; where `runtime.require` wants a tuned prompt that is better than
            the strongest baseline, and it is not.
    """
    params = load_params()
    metrics = read_metrics()
    tuned = tuned_name(metrics["prompts"]["tuned"]["tokens"])
    print(f"\n{headline(metrics, tuned)}\n")
    print(f"report {RESULTS}/report.html · metrics {METRICS} · rows {RESULTS}/predictions.parquet · adapter {ADAPTER}")
    if params.runtime.require and metrics["verdict"] != "helps":
        raise InputError(
            f"runtime.require: the {tuned} has to be better than the {NAMES[metrics['strongest']]}, and the "
            f"interval of the difference does not say so ({shown(against_strongest(metrics))}); "
            f"{RESULTS}/report.html has the reasons"
        )


if __name__ == "__main__":
    with exit_on_input_error():
        main()
