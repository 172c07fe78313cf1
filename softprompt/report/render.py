"""The pages' text from templates beside this file. jinja2 escapes whatever is not marked as safe."""

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from softprompt.evaluation.headline import headline
from softprompt.evaluation.names import NAMES, measured, tuned_name
from softprompt.report import charts
from softprompt.report.answer_cards import answers, drawn_rows
from softprompt.report.filters import FILTERS
from softprompt.report.inputs import Results
from softprompt.report.origins import Provenance
from softprompt.report.slice_table import slice_groups

HERE = Path(__file__).parent
STYLE = (HERE / "style.css").read_text(encoding="utf-8")
VERDICTS = {
    "helps": "The {tuned} helps",
    "no evidence": "No evidence that the {tuned} helps",
    "harms": "The {tuned} harms",
}
# By PEFT's names.
METHODS = {
    "PROMPT_TUNING": "prompt tuning",
    "P_TUNING": "P-tuning",
    "PREFIX_TUNING": "prefix tuning",
    "LORA": "LoRA",
}
SHARES = ("exact match", "truncated", "empty", "repetition")


def html_page(results: Results, origin: Provenance) -> str:
    """report.html."""
    common = _common(results)
    script = (HERE / "script.js").read_text(encoding="utf-8")
    strongest = results.metrics["strongest"]
    listed = answers(results.rows, strongest)
    shown = {row["example_id"] for row in listed.rows}
    drawn = drawn_rows(results.rows, shown)
    return (
        environment(HERE, autoescape=True)
        .get_template("report.html.jinja")
        .render(
            **common,
            origin=origin,
            smoothing=charts.SMOOTHING,
            methods=METHODS,
            style=Markup(STYLE),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            loss_chart=charts.loss_chart(results.training, results.validation, results.train["step"]),
            learning_rate_chart=charts.learning_rate_chart(results.learning_rate, results.training, results.validation),
            slice_groups=slice_groups(results.metrics["slices"], strongest),
            scatter_chart=charts.scatter_chart(drawn, shown, common["names"]["tuned"]),
            drawn=len(drawn),
            listed=listed,
        )
    )


def markdown_page(results: Results) -> str:
    """report.md: what fits into a comment."""
    template = environment(HERE, autoescape=False).get_template("report.md.jinja")
    common = _common(results)
    return template.render(**common, headline=headline(results.metrics, common["names"]["tuned"]))


def _common(results: Results) -> dict[str, Any]:
    tuned = tuned_name(results.adapter.virtual_tokens)
    names = {variant: NAMES[variant] for variant in measured(results.metrics)} | {"tuned": tuned}
    return {
        "results": results,
        "metrics": results.metrics,
        "names": names,
        "baselines": {variant: name for variant, name in names.items() if variant != "tuned"},
        "strongest": results.metrics["strongest"],
        "gap_name": f"tuned_minus_{results.metrics['strongest']}",
        "verdict": VERDICTS[results.metrics["verdict"]].format(tuned=tuned),
        "shares": SHARES,
    }


def environment(folder: Path, *, autoescape: bool) -> Environment:
    """The templates of `folder`, with the filters for numbers and texts."""
    loaded = Environment(
        loader=FileSystemLoader(folder),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    loaded.filters |= FILTERS
    return loaded
