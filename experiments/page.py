"""The page of a sweep: what it answers, a chart and a table, with intervals over seeds."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from experiments.summary import Interval, Setting, Summary
from softprompt.evaluation.names import NAMES
from softprompt.report.charts import svg
from softprompt.report.filters import difference, number
from softprompt.report.render import STYLE, environment

HERE = Path(__file__).parent
SPLITS, COLORS, SHAPES = ["validation", "test"], ["var(--base)", "var(--tuned)"], ["circle", "diamond"]
WIDTH, HEIGHT = 560, 300
DASHES = {"hard": [6, 4], "few_shot": [2, 3]}  # of the baselines that are drawn; the base model is far above


def page(name: str, question: str, command: str, commit: str, result: Summary) -> str:
    """HTML that needs nothing else."""
    return (
        environment(HERE, autoescape=True)
        .get_template("sweep.html.jinja")
        .render(
            name=name,
            question=question,
            command=command,
            commit=commit,
            result=result,
            seeds=max(len(setting.tests) for setting in result.settings),
            lines=lines(result),
            names=NAMES,
            drawn=[variant for variant in result.baselines if variant in DASHES],
            chart=chart(result),
            style=Markup(STYLE),
        )
    )


def lines(result: Summary) -> list[list[str]]:
    """A head and a line for each setting: the same table for the terminal and for the page."""
    head = [", ".join(result.params) or "setting", "chosen", "seeds"]
    head += ["validation loss, 95% interval", "test loss, 95% interval", "test minus the chosen one's, 95% interval"]
    return [head, *(_line(setting, setting.values == result.chosen.values) for setting in result.settings)]


def chart(result: Summary) -> Markup:
    """Loss by setting: each seed as a small point, the mean as a large one, its interval as a line."""
    means, seeds = list[dict[str, Any]](), list[dict[str, Any]]()
    for setting in result.settings:
        for split, mean, losses in (
            ("validation", setting.validation, setting.validations),
            ("test", setting.test, setting.tests),
        ):
            means.append({"setting": setting.values, "split": split, **mean})
            seeds += [{"setting": setting.values, "split": split, "loss": loss} for loss in losses.values()]
    intervals = [mean for mean in means if "low" in mean]
    ends = [run["loss"] for run in seeds] + [interval[end] for interval in intervals for end in ("low", "high")]
    drawn = {variant: loss for variant, loss in result.baselines.items() if variant in DASHES}
    ends += drawn.values()
    y = {
        "type": "quantitative",
        "scale": {"domain": [min(ends), max(ends)], "nice": True},
        "axis": {"title": "nats per token"},
    }
    places = {
        "x": {
            "field": "setting",
            "type": "ordinal",
            "sort": [setting.values for setting in result.settings],
            "axis": {"title": ", ".join(result.params), "labelAngle": 0},
        },
        "xOffset": {"field": "split", "sort": SPLITS},
        "color": {"field": "split", "scale": {"domain": SPLITS, "range": COLORS}, "legend": None},
    }
    shape = {"field": "split", "scale": {"domain": SPLITS, "range": SHAPES}, "legend": None}
    layers = [
        *(
            _layer(
                [{variant: loss}],
                {"type": "rule", "color": f"var(--{variant})", "strokeDash": DASHES[variant], "strokeWidth": 1.5},
                {"y": {**y, "field": variant}},
            )
            for variant, loss in drawn.items()
        ),
        _layer(
            intervals,
            {"type": "rule", "strokeWidth": 2},
            {**places, "y": {**y, "field": "low"}, "y2": {"field": "high"}},
        ),
        _layer(
            seeds,
            {"type": "point", "filled": True, "size": 18, "opacity": 0.6},
            {**places, "shape": shape, "y": {**y, "field": "loss"}},
        ),
        _layer(
            means,
            {"type": "point", "filled": True, "size": 80, "opacity": 1},
            {**places, "shape": shape, "y": {**y, "field": "mean"}},
        ),
    ]
    return svg({"layer": layers}, WIDTH, HEIGHT)


def _layer(rows: list[dict[str, Any]], mark: dict[str, Any], encoding: dict[str, Any]) -> dict[str, Any]:
    return {"data": {"values": rows}, "mark": mark, "encoding": encoding}


def _line(setting: Setting, is_chosen: bool) -> list[str]:
    gap = setting.minus_chosen
    return [
        setting.values,
        "yes" if is_chosen else "",
        str(len(setting.tests)),
        _shown(setting.validation),
        _shown(setting.test),
        "" if gap is None else difference(gap) if "low" in gap else number(gap["mean"]),
    ]


def _shown(mean: Interval) -> str:
    around = f" [{number(mean['low'])}, {number(mean['high'])}]" if "low" in mean else ""
    return f"{number(mean['mean'])}{around}"
