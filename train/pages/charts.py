"""The kinds of chart, drawn by Vega-Lite as SVG.

Colours are CSS variables, so that a drawing follows the page's light and dark. A drawing is narrow
enough to be read on a phone; a figure puts several side by side where there is room.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import vl_convert
from markupsafe import Markup

from c2rec.train.pages.figure import Panel

WIDTH = 440
_FONT = "Arial, Helvetica, sans-serif"
_LABEL_LIMIT = 215
"""Pixels, of the name of a row."""
_CHARACTER = 7.2
"""Pixels that a character takes at most, on average."""
_VERSION = "5.21"
"""Of Vega-Lite."""
COLOURS = {
    "C2Rec": "var(--ours)",
    "offline": "var(--offline)",
    "online": "var(--online)",
    "shared": "var(--shared)",
}
_OTHERS = ["var(--other)", "var(--other-2)", "var(--other-3)", "var(--other-4)"]
_SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"]


@dataclass(frozen=True, slots=True)
class Dot:
    """A figure with its interval, in a row of a chart."""

    row: str
    series: str
    mean: float
    low: float | None = None
    high: float | None = None


def dots(
    values: Sequence[Dot],
    *,
    title: str,
    x: str,
    y: str,
    zero: bool = False,
    percent: bool = False,
) -> Panel:
    """Draw a row for each name, with a dot and a whisker for each series.

    Args:
        values: at least one; rows and series in the order of their first.
        title: of the panel.
        x: title of the axis of the values.
        y: title of the axis of the rows.
        zero: whether a line stands at 0.
        percent: whether values are shares, shown as percent.
    """
    series = list(dict.fromkeys(each.series for each in values))
    rows = list(dict.fromkeys(each.row for each in values))
    encoding: dict[str, Any] = {"y": _rows(rows, y), "color": _colour(series)}
    if len(rows) < len(values):
        encoding["yOffset"] = {"field": "series", "sort": series}
    axis = {"tickCount": 5, **({"format": "+.0%"} if percent else {})}
    shapes = {"domain": series, "range": _SHAPES[: len(series)]}
    scale = {"zero": zero}
    along = {"type": "quantitative", "title": x, "axis": axis, "scale": scale}
    layers: list[dict[str, Any]] = []
    if zero:
        layers.append(
            {
                "data": {"values": [{"at": 0}]},
                "mark": {"type": "rule", "color": "var(--ink)", "strokeDash": [4, 3]},
                "encoding": {"x": {"field": "at", "type": "quantitative"}, "y": None}
                | {"color": None, "yOffset": None},
            }
        )
    layers += [
        {
            "transform": [{"filter": "isValid(datum.low) && isValid(datum.high)"}],
            "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.55},
            "encoding": {"x": {"field": "low", **along}, "x2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 64, "opacity": 1},
            "encoding": {"x": {"field": "mean", **along}}
            | {"shape": {"field": "series", "scale": shapes, **_legend(series)}},
        },
    ]
    records = [
        {
            "row": each.row,
            "series": each.series,
            "mean": each.mean,
            "low": each.low,
            "high": each.high,
        }
        for each in values
    ]
    shown = f"{max(each.mean for each in values):{'+.1%' if percent else '.4f'}}"
    highest = max(values, key=lambda each: each.mean)
    name = highest.row if len(series) == 1 or len(rows) > 1 else highest.series
    groups = f" and {len(series)} series" if len(series) > 1 else ""
    alt = (
        f"{title}: {x} for {len(rows)} rows ({y.lower()}){groups}, with 95 % intervals; "
        f"the highest is {name} with {shown}."
    )
    height = {"step": 22 if len(rows) == len(values) else 15}
    return _panel(
        title, alt, {"data": {"values": records}, "encoding": encoding, "layer": layers}, height
    )


def lines(
    values: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str,
    x: str,
    y: str,
    mark: tuple[float, str] | None = None,
) -> Panel:
    """Draw a line through the points of each series.

    Args:
        values: points per series, none of them without points.
        title: of the panel.
        x: title of the horizontal axis, of whole numbers.
        y: title of the vertical axis.
        mark: where an upright line stands, and what is written on it.
    """
    records = [
        {"series": name, "x": a, "y": b} for name, points in values.items() for a, b in points
    ]
    series = list(values)
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "line", "point": {"filled": True, "size": 22}, "strokeWidth": 2},
            "encoding": {
                "x": {"field": "x", "type": "quantitative", "title": x}
                | {"axis": {"tickMinStep": 1, "format": "d"}, "scale": {"zero": False}},
                "y": {"field": "y", "type": "quantitative", "title": y, "scale": {"zero": False}},
                "color": _colour(series),
            },
        }
    ]
    if mark:
        places = [a for points in values.values() for a, _ in points]
        align = "right" if 2 * mark[0] >= min(places) + max(places) else "left"
        at = {"x": {"field": "at", "type": "quantitative"}}
        data = {"values": [{"at": mark[0], "text": mark[1]}]}
        layers += [
            {
                "data": data,
                "mark": {"type": "rule", "color": "var(--ink)", "strokeDash": [4, 3]},
                "encoding": at,
            },
            {
                "data": data,
                "mark": {"type": "text", "align": align, "y": -8, "color": "var(--ink)"},
                "encoding": at | {"text": {"field": "text"}},
            },
        ]
    ends = ", ".join(f"{name} ends at {points[-1][1]:.4f}" for name, points in values.items())
    alt = f"{title}: {y} over {x}; {ends}{'; ' + mark[1] if mark else ''}."
    return _panel(title, alt, {"data": {"values": records}, "layer": layers}, 220)


def stacked(values: Mapping[str, Mapping[str, float]], *, title: str, x: str, y: str) -> Panel:
    """Draw a bar for each row, of parts that sum to 1, or to more."""
    records = [
        {"row": name, "series": part, "order": place, "share": share}
        for name, parts in values.items()
        for place, (part, share) in enumerate(parts.items())
    ]
    series = list(next(iter(values.values())))
    most = max(1.0, *(sum(parts.values()) for parts in values.values()))
    whole = most if most > 1.001 else 1.0
    spec = {
        "data": {"values": records},
        "mark": {"type": "bar", "stroke": "var(--paper)", "strokeWidth": 1},
        "encoding": {
            "y": _rows(list(values), y),
            "x": {"field": "share", "type": "quantitative", "title": x}
            | {"axis": {"tickCount": 5, "format": ".0%"}, "scale": {"domain": [0, whole]}},
            "color": _colour(series),
            "order": {"field": "order", "type": "quantitative"},
        },
    }
    of_each = "; ".join(
        f"{name}: " + ", ".join(f"{part} {share:.0%}" for part, share in parts.items())
        for name, parts in values.items()
    )
    return _panel(title, f"{title}. {of_each}.", spec, {"step": 30})


def bars(
    values: Mapping[str, Mapping[str, float]], *, title: str, x: str, y: str, percent: bool = False
) -> Panel:
    """Draw bars from 0, grouped by row, one for each series."""
    records = [
        {"row": name, "series": part, "value": value}
        for name, parts in values.items()
        for part, value in parts.items()
    ]
    series = list(dict.fromkeys(part for parts in values.values() for part in parts))
    axis = {"tickCount": 5, **({"format": ".0%"} if percent else {})}
    encoding: dict[str, Any] = {
        "y": _rows(list(values), y),
        "x": {"field": "value", "type": "quantitative", "title": x, "axis": axis},
        "color": _colour(series),
    }
    if len(series) > 1:
        encoding["yOffset"] = {"field": "series", "sort": series}
    spec = {"data": {"values": records}, "mark": {"type": "bar"}, "encoding": encoding}
    of_each = "; ".join(
        f"{name}: " + ", ".join(f"{part} {value:.3f}" for part, value in parts.items())
        for name, parts in values.items()
    )
    return _panel(title, f"{title}. {of_each}.", spec, {"step": 26 if len(series) == 1 else 14})


def reliability(
    values: Sequence[tuple[float, float, float | None, float | None]],
    *,
    title: str,
    series: str,
    x: str,
    y: str,
) -> Panel:
    """Draw observed against predicted chances, both by powers of 10, with the line of equals.

    Args:
        values: predicted, observed, low and high of each point; ``low`` may be 0, or both None.
        title: of the panel.
        series: whose colour the points have.
        x: title of the axis of what was predicted.
        y: title of the axis of what was observed.
    """
    every = [each for point in values for each in point if each]
    ends = [min(every), max(every)]
    low, high = ends[0] / 1.5, ends[1] * 1.5
    scale = {"type": "log", "domain": [low, high], "nice": False}
    tens = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    axis = {"format": "~g", "values": [10.0**each for each in tens]}
    records = [{"x": a, "y": b, "low": each[0] or low, "high": each[1]} for a, b, *each in values]
    along = {"field": "x", "type": "quantitative", "title": x, "scale": scale, "axis": axis}
    upright = {"type": "quantitative", "title": y, "scale": scale, "axis": axis}
    colour = {"value": COLOURS[series]}
    spec = {
        "layer": [
            {
                "data": {"values": [{"x": end} for end in ends]},
                "mark": {"type": "line", "color": "var(--ink)", "strokeDash": [4, 3]},
                "encoding": {"x": along, "y": {"field": "x", **upright}},
            },
            {
                "data": {"values": records},
                "transform": [{"filter": "isValid(datum.low) && isValid(datum.high)"}],
                "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.55},
                "encoding": {"x": along, "y": {"field": "low", **upright}}
                | {"y2": {"field": "high"}, "color": colour},
            },
            {
                "data": {"values": records},
                "mark": {"type": "line", "point": {"filled": True, "size": 50}, "opacity": 1},
                "encoding": {"x": along, "y": {"field": "y", **upright}, "color": colour},
            },
        ]
    }
    alt = f"{title}: {y} over {x} in {len(values)} bins; " + ", ".join(
        f"{a:.1e} predicted and {b:.1e} observed" for a, b, *_ in values
    )
    return _panel(title, alt + ".", spec, 260)


def _rows(names: Sequence[str], title: str) -> dict[str, Any]:
    """The axis of the rows, its title above it, with room for the names in any sans-serif."""
    axis = {
        "minExtent": min(_LABEL_LIMIT, _CHARACTER * max(len(name) for name in names)) + 8,
        "titleAngle": 0,
        "titleAlign": "right",
        "titleAnchor": "end",
        "titleBaseline": "bottom",
        "titleX": -6,
        "titleY": -4,
    }
    return {"field": "row", "type": "nominal", "sort": None, "title": title, "axis": axis}


def _colour(series: Sequence[str]) -> dict[str, Any]:
    others = iter(_OTHERS * (1 + len(series)))
    colours = [COLOURS.get(name) or next(others) for name in series]
    return {
        "field": "series",
        "type": "nominal",
        "scale": {"domain": list(series), "range": colours},
        **_legend(series),
    }


def _legend(series: Sequence[str]) -> dict[str, Any]:
    """A legend where there is more than one series to tell apart."""
    columns = 4 if sum(len(name) for name in series) < 30 else 2
    legend = {"title": None, "orient": "top", "columns": columns}
    return {"legend": legend if len(series) > 1 else None}


def _panel(title: str, alt: str, spec: dict[str, Any], height: int | dict[str, int]) -> Panel:
    whole = {
        "$schema": f"https://vega.github.io/schema/vega-lite/v{_VERSION}.json",
        "width": WIDTH,
        "height": height,
        "autosize": {"type": "fit-x" if isinstance(height, dict) else "fit", "contains": "padding"},
        **spec,
        "config": _CONFIG,
    }
    drawn = vl_convert.vegalite_to_svg(whole, vl_version=_VERSION, allowed_base_urls=[])
    inside = drawn[drawn.index("<svg ") + len("<svg ") :]
    svg = Markup('<svg role="img" aria-label="{}" ').format(alt) + Markup(inside)  # noqa: S704 - Vega escapes what it writes
    return Panel(title, alt, svg)


_CONFIG: dict[str, Any] = {
    "background": None,
    "font": _FONT,
    "padding": {"left": 2, "right": 18, "top": 4, "bottom": 4},
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--ink-2)",
        "titleColor": "var(--ink)",
        "titleFontWeight": 500,
        "titlePadding": 8,
        "labelFontSize": 12,
        "titleFontSize": 12.5,
        "labelLimit": _LABEL_LIMIT,
        "labelOverlap": True,
        "labelSeparation": 10,
        "gridColor": "var(--grid)",
        "domainColor": "var(--rule)",
        "tickColor": "var(--rule)",
    },
    "axisY": {"labelPadding": 6},
    "legend": {
        "labelColor": "var(--ink)",
        "labelFontSize": 12,
        "symbolOpacity": 1,
        "symbolSize": 80,
        "columnPadding": 16,
        "padding": 2,
        "offset": 20,
    },
    "text": {"fontSize": 12},
}
