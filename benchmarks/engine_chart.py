"""Draws time per request by catalogue size, for those who answer and for a read of the items."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import vl_convert

_VERSION = "5.21"
"""Of Vega-Lite."""
_COLOURS = {
    "engine": "#8250df",
    "plain graph": "#c2500a",
    "numpy": "#6e7781",
    "PyTorch": "#0969da",
    "torch.compile": "#54aeff",
    "faiss flat": "#1a7f5a",
    "faiss HNSW": "#4ac497",
    "usearch HNSW": "#a07a00",
    "read int8": "#1f2328",
    "read float32": "#8c959f",
}
_DASHED = {"read int8", "read float32"}


class Point(NamedTuple):
    """One time of one who was timed."""

    data: str
    size: int
    """d"""
    name: str
    items: int
    milliseconds: float


def chart(points: Sequence[Point]) -> str:
    """Draw a panel for each kind of data and embedding size, as SVG.

    Args:
        points: at least one; times are medians.
    """
    names = [name for name in _COLOURS if any(point.name == name for point in points)]
    records = [
        point._asdict() | {"panel": f"d = {point.size}", "dashed": point.name in _DASHED}
        for point in points
    ]
    kinds = list(dict.fromkeys(point.data for point in points))
    panels = [f"d = {size}" for size in dict.fromkeys(point.size for point in points)]
    scale = {"domain": names, "range": [_COLOURS[name] for name in names]}
    encoding: dict[str, Any] = {
        "x": {"field": "items", "type": "quantitative", "title": "items in the catalogue"}
        | {"scale": {"type": "log"}, "axis": {"format": "~s", "tickCount": 3}},
        "y": {"field": "milliseconds", "type": "quantitative", "title": "ms per request (median)"}
        | {"scale": {"type": "log"}, "axis": {"format": "~g", "tickCount": 5}},
        "color": {"field": "name", "type": "nominal", "title": None, "scale": scale, "sort": names},
        "strokeDash": {"field": "dashed", "type": "nominal", "legend": None}
        | {"scale": {"domain": [False, True], "range": [[1, 0], [5, 4]]}},
    }
    spec = {
        "$schema": f"https://vega.github.io/schema/vega-lite/v{_VERSION}.json",
        "data": {"values": records},
        "facet": {
            "row": {"field": "data", "type": "nominal", "title": None, "sort": kinds},
            "column": {"field": "panel", "type": "nominal", "title": None, "sort": panels},
        },
        "spec": {
            "width": 340,
            "height": 260,
            "mark": {"type": "line", "strokeWidth": 2, "point": {"filled": True, "size": 36}},
            "encoding": encoding,
        },
        "config": {
            "background": "white",
            "font": "Arial, Helvetica, sans-serif",
            "view": {"stroke": None},
            "axis": {"gridColor": "#e4e8ec", "domainColor": "#d0d7de", "tickColor": "#d0d7de"},
        },
    }
    drawn: str = vl_convert.vegalite_to_svg(spec, vl_version=_VERSION, allowed_base_urls=[])
    return drawn
