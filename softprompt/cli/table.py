"""The table of `softprompt compare`."""

from typing import Any

from softprompt.evaluation.headline import shown
from softprompt.runtime.markdown import table

BASE = 0  # the base model's place among what is compared: the baselines, then the adapters


def compared(result: dict[str, Any]) -> str:
    """Losses in nats per label token, with paired differences and their 95% intervals; see `compare`."""
    names = [entry["name"] for entry in result["compared"]]
    lines = [["prompt", "method", "virtual tokens", "nats per token", "perplexity"]]
    first = next(place for place, entry in enumerate(result["compared"]) if entry["method"])
    lines[0] += [f"minus {names[place]}, 95% interval" for place in (first, BASE)]
    for name, entry in zip(names, result["compared"], strict=True):
        numbers = [str(entry["virtual_tokens"] or ""), f"{entry['loss']:.3f}", f"{entry['perplexity']:.2f}"]
        gaps = [shown(gap) if (gap := entry[f"minus_{other}"]) else "" for other in ("first", "base")]
        lines.append([name, entry["method"] or "", *numbers, *gaps])
    counts = f"{result['rows']} test rows of {result['questions']} questions ({result['tokens']:,} answer tokens)"
    return f"Held-out loss on {counts}:\n\n{table(lines, texts=2)}"
