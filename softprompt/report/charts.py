"""Charts as static SVG, from Vega-Lite: no script in the page, colours by the page's theme, the same bytes everywhere.

Text is measured with the fonts of the machine, but for Latin letters in `sans-serif`, which vl-convert brings along. So
nothing in a chart is laid out by the size of a text of the data: `autosize` is off, and margins are fixed.
"""

from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from softprompt.evaluation.names import NAMES
from softprompt.report.filters import shortened
from softprompt.report.inputs import Curve

VEGA_LITE = "6.4"
# vl-convert makes relative links absolute; a link to this address is made relative again.
HERE = "https://here.invalid/"
CONFIG = {
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {
        "domainColor": "var(--line-strong)",
        "gridColor": "var(--line)",
        "tickColor": "var(--line-strong)",
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "labelFlush": False,
    },
    "text": {"color": "var(--muted)", "fontSize": 12},
}
SLICE_COLUMNS = 20  # of a slice's name
SLICE_HEIGHT = 26
SMOOTHING = 0.9  # what the average of the steps before weighs, of 1


def row_anchor(example_id: str) -> str:
    """The id of a row's place in the page."""
    return f"row-{quote(example_id, safe='')}"


def loss_chart(training: Curve, validation: Curve, kept: int) -> Markup:
    """Loss by step: of training pale, and smoothed; of validation dashed with points; a rule at the kept prompt."""
    x, y = _steps("", training, validation), _axis("loss", "nats per token")
    layers = [
        {
            "data": _data([{"step": kept}]),
            "mark": {"type": "rule", "color": "var(--line-strong)", "strokeDash": [2, 3]},
        },
        {
            "data": _curve(training, "loss"),
            "mark": {"type": "line", "color": "var(--base)", "strokeWidth": 0.75, "opacity": 0.5},
        },
        {
            "data": _curve(smoothed(training), "loss"),
            "mark": {"type": "line", "color": "var(--base)", "strokeWidth": 2},
        },
        {
            "data": _curve(validation, "loss"),
            "mark": {
                "type": "line",
                "color": "var(--tuned)",
                "strokeWidth": 2,
                "strokeDash": [6, 4],
                "point": {"color": "var(--tuned)", "filled": True, "size": 60, "shape": "diamond"},
            },
        },
    ]
    encodings = [{"x": x}, *([{"x": x, "y": y}] * 3)]
    layers = [{**layer, "encoding": encoding} for layer, encoding in zip(layers, encodings, strict=True)]
    return svg({"layer": layers}, 370, 210, bottom=24)


def smoothed(curve: Curve) -> Curve:
    """Its exponential moving average, without the pull of a start at zero."""
    average, points = 0.0, []
    for count, (step, value) in enumerate(curve, start=1):
        average = SMOOTHING * average + (1 - SMOOTHING) * value
        points.append((step, average / (1 - SMOOTHING**count)))
    return points


def learning_rate_chart(learning_rate: Curve, *same_steps: Curve) -> Markup:
    """Learning rate by step, over the steps of `same_steps` too, so that it lines up with the chart above it."""
    return svg(
        {
            "data": _curve(learning_rate, "rate"),
            "mark": {"type": "line", "color": "var(--hard)", "strokeWidth": 2},
            "encoding": {"x": _steps("step", learning_rate, *same_steps), "y": _axis("rate", "learning rate", ticks=3)},
        },
        370,
        70,
    )


def slice_chart(slices: list[dict[str, Any]], strongest: str, bounds: tuple[float, float]) -> Markup:
    """Tuned minus `strongest` of each slice of one kind: a point, its interval, and zero; `bounds` of the axis."""
    gap = f"tuned_minus_{strongest}"
    rows = [
        # The place keeps apart what is alike when shortened.
        {"place": place, "name": shortened(part["slice"], SLICE_COLUMNS), **part[gap]}
        for place, part in enumerate(slices)
        if part[gap]
    ]
    y = {"field": "place", "type": "ordinal", "axis": None, "scale": {"domain": [row["place"] for row in rows]}}
    x = {
        "type": "quantitative",
        "scale": {"domain": list(bounds), "nice": False},
        "axis": {
            "title": f"tuned minus {NAMES[strongest]}, nats per token",
            "tickCount": 5,
            "labelExpr": "datum.value == 0 ? '0' : format(datum.value, '+.2~f')",
        },
    }
    zero = {"type": "rule", "color": "var(--ink)", "strokeDash": [4, 3]}
    layers = [
        {"data": _data([{"zero": 0}]), "mark": zero, "encoding": {"x": {**x, "field": "zero"}}},
        {
            "mark": {"type": "rule", "color": "var(--tuned)", "strokeWidth": 2},
            "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1, "color": "var(--tuned)"},
            "encoding": {"x": {**x, "field": "mean"}, "y": y},
        },
        {
            "mark": {"type": "text", "align": "right", "baseline": "middle", "x": -10, "color": "var(--ink)"},
            "encoding": {"text": {"field": "name"}, "y": y},
        },
    ]
    return svg({"data": _data(rows), "layer": layers}, 275, SLICE_HEIGHT * len(rows), left=155)


def scatter_chart(rows: list[dict[str, Any]], linked: set[str], tuned: str) -> Markup:
    """Loss of each row: base model across, the `tuned` one up, equal on the diagonal. `linked` rows are links."""
    points = [
        {
            "base": row["base_loss"],
            "tuned": row["tuned_loss"],
            "side": "worse" if row["gain_over_base"] < 0 else "better",
            **({"link": f"{HERE}#{row_anchor(row['example_id'])}"} if row["example_id"] in linked else {}),
        }
        for row in rows
    ]
    largest = max((max(point["base"], point["tuned"]) for point in points), default=1.0)
    x, y = (
        {**_axis(name, title), "scale": {"domain": [0, largest], "nice": True}}
        for name, title in (("base", "base model, nats per token"), ("tuned", f"{tuned}, nats per token"))
    )
    sides = ["better", "worse"]
    point = {
        "x": x,
        "y": y,
        "color": {
            "field": "side",
            "scale": {"domain": sides, "range": ["var(--tuned)", "var(--worse)"]},
            "legend": None,
        },
        "shape": {"field": "side", "scale": {"domain": sides, "range": ["circle", "triangle-up"]}, "legend": None},
    }
    mark = {"type": "point", "filled": True, "size": 45, "opacity": 0.75, "aria": False}
    layers = [
        {
            "data": _data([{"base": 0, "tuned": 0}, {"base": largest, "tuned": largest}]),
            "mark": {"type": "line", "color": "var(--ink)", "strokeDash": [4, 3], "strokeWidth": 1},
            "encoding": {"x": x, "y": y},
        },
        {"data": _data([p for p in points if "link" not in p]), "mark": mark, "encoding": point},
        {
            "data": _data([p for p in points if "link" in p]),
            "mark": mark,
            "encoding": {**point, "href": {"field": "link", "type": "nominal"}},
        },
    ]
    return svg({"layer": layers}, 370, 340)


def svg(spec: dict[str, Any], width: int, height: int, left: int = 60, bottom: int = 44) -> Markup:
    """A chart of Vega-Lite; `width` and `height` of what is between the axes, and margins for them, in pixels."""
    import vl_convert

    whole = {
        **spec,
        "width": width,
        "height": height,
        "background": None,
        "autosize": {"type": "none"},
        "padding": {"left": left, "right": 14, "top": 8, "bottom": bottom},
        "config": CONFIG,
    }
    drawn = vl_convert.vegalite_to_svg(whole, vl_version=VEGA_LITE, allowed_base_urls=[])
    # The rows are reached by keyboard where they are: hundreds of points need not be stops on the way.
    return Markup(drawn.replace(f'xlink:href="{HERE}', 'tabindex="-1" href="'))


def _data(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"values": rows}


def _curve(curve: Curve, name: str) -> dict[str, Any]:
    return _data([{"step": step, name: value} for step, value in curve])


def _axis(field: str, title: str, ticks: int = 5) -> dict[str, Any]:
    axis = {"title": title, "tickCount": ticks}
    return {"field": field, "type": "quantitative", "scale": {"zero": False}, "axis": axis}


def _steps(title: str, *curves: Curve) -> dict[str, Any]:
    steps = [step for curve in curves for step, _ in curve]
    return {**_axis("step", title), "scale": {"domain": [min(steps, default=0), max(steps, default=1)]}}
