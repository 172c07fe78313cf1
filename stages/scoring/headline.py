"""The last lines of `make repro`: what came out, and where it lies. `python -m stages.scoring.headline`"""

import json

from stages.workspace.errors import InputError
from stages.workspace.guard import exit_on_input_error
from stages.workspace.paths import ADAPTER, RESULTS

NAMES = {"bare": "bare model", "hard": "hard prompt", "tuned": "tuned prompt"}
METRICS = RESULTS / "metrics.json"


def headline(metrics: dict) -> str:
    """The losses as a table in Markdown, readable in a terminal as well, and the verdict with its intervals."""
    lines = [
        f"Held-out loss on {metrics['rows']} test rows ({metrics['tokens']:,} answer tokens):",
        "",
        "| rival        | nats per token | perplexity | tuned minus it, 95% interval |",
        "|--------------|---------------:|-----------:|-----------------------------:|",
    ]
    for rival, name in NAMES.items():
        gap = metrics.get(f"tuned_minus_{rival}")
        shown = f"{gap['mean']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]" if gap else ""
        loss, perplexity = metrics[rival]["loss"], metrics[rival]["perplexity"]
        lines.append(f"| {name:12} | {loss:14.3f} | {perplexity:10.2f} | {shown:>28} |")
    return "\n".join([*lines, "", f"Against the hard prompt: {metrics['verdict']}."])


def main() -> None:
    """Print the headline of results/metrics.json."""
    if not METRICS.is_file():
        raise InputError(f"{METRICS} is missing; make it with: dvc repro evaluate")
    print(f"\n{headline(json.loads(METRICS.read_text(encoding='utf-8')))}\n")
    print(f"metrics {METRICS} · loss of each row {RESULTS}/losses.parquet · curves {RESULTS}/train · adapter {ADAPTER}")


if __name__ == "__main__":
    with exit_on_input_error():
        main()
