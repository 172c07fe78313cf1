"""What `prompt-tuning compare` measured, as a table in Markdown that is readable in a terminal as well."""

from typing import Any

BARE, FIRST = 0, 2  # places among what is compared: bare model, hard prompt, then the adapters
TEXTS = 2  # the first columns are texts, the others numbers


def table(result: dict[str, Any]) -> str:
    """Losses in nats per label token, with paired differences and their 95% intervals; see `compare`."""
    names = [entry["name"].replace("|", "\\|") for entry in result["compared"]]
    lines = [["prompt", "method", "virtual tokens", "nats per token", "perplexity"]]
    lines[0] += [f"minus {names[place]}, 95% interval" for place in (FIRST, BARE)]
    for name, entry in zip(names, result["compared"], strict=True):
        numbers = [str(entry["virtual_tokens"] or ""), f"{entry['loss']:.3f}", f"{entry['perplexity']:.2f}"]
        gaps = [_gap(entry["minus_first"]), _gap(entry["minus_bare"])]
        lines.append([name, entry["method"] or "", *numbers, *gaps])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = "|".join(
        "-" * (width + 2) if column < TEXTS else "-" * (width + 1) + ":" for column, width in enumerate(widths)
    )
    head, *rows = (_line(line, widths) for line in lines)
    counts = f"{result['rows']} test rows of {result['questions']} questions ({result['tokens']:,} answer tokens)"
    return "\n".join([f"Held-out loss on {counts}:", "", head, f"|{rule}|", *rows])


def _line(cells: list[str], widths: list[int]) -> str:
    texts = [cell.ljust(width) for cell, width in zip(cells[:TEXTS], widths, strict=False)]
    numbers = [cell.rjust(width) for cell, width in zip(cells[TEXTS:], widths[TEXTS:], strict=True)]
    return f"| {' | '.join([*texts, *numbers])} |"


def _gap(gap: dict[str, float] | None) -> str:
    return f"{gap['mean']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]" if gap else ""
