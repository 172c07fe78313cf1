"""Tables in Markdown that are readable in a terminal as well."""

from typing import Any

from softprompt.evaluation.headline import shown

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


def table(lines: list[list[str]], texts: int) -> str:
    """`lines`, the first of them the head; the first `texts` columns are aligned left, the others, numbers, right."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = "|".join(
        "-" * (width + 2) if column < texts else "-" * (width + 1) + ":" for column, width in enumerate(widths)
    )
    head, *rows = (_line(line, widths, texts) for line in lines)
    return "\n".join([head, f"|{rule}|", *rows])


def _line(cells: list[str], widths: list[int], texts: int) -> str:
    left = [cell.ljust(width) for cell, width in zip(cells[:texts], widths, strict=False)]
    right = [cell.rjust(width) for cell, width in zip(cells[texts:], widths[texts:], strict=True)]
    return f"| {' | '.join([*left, *right])} |"
