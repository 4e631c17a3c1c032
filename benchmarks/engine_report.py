"""Writing what was measured of the engine: a table, a document, a chart."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.comparison import Comparison
from benchmarks.engine_chart import Point, chart
from benchmarks.rivals import K

_SHORT = [
    *("data", "items", "d", "engine, ms", "p99", "plain graph, ms", "engine / plain"),
    *("engine / read int8", "engine / read float32", "exact", "widened", "scanned", "scored"),
    *("batch gain", "99 % masked / unmasked"),
]


def table(comparisons: Sequence[Comparison]) -> str:
    """Write what was found as Markdown: the engine in short, and everyone in full."""
    lines = [
        _row(_SHORT),
        _row(["---", *["---:"] * (len(_SHORT) - 1)]),
    ]
    for each in comparisons:
        engine, whole = each.of("engine"), each.of("plain graph")
        small, large = each.of("read int8"), each.of("read float32")
        lines.append(
            f"{_where(each)} {engine.median:.3f} | {engine.p99:.3f} | {whole.median:.3f} "
            f"| {engine.median / whole.median:.2f} | {engine.median / small.median:.2f} "
            f"| {engine.median / large.median:.2f} | {'yes' if each.exact else '**NO**'} "
            f"| {each.widened:.0%} | {each.scanned:.0%} | {each.scored:.0f} "
            f"| {each.batch_gain:.2f} | {each.masked_ratio:.2f} |"
        )
    lines += [
        "",
        f"| data | items | d | who | median, ms | p99, ms | × engine | recall@{K} | same list |",
        "| --- | ---: | ---: | --- |" + " ---: |" * 5,
    ]
    for each in comparisons:
        for one in each.measured:
            times = one.median / each.of("engine").median
            answers = "– | –" if one.recall is None else f"{one.recall:.3f} | {one.same:.0%}"
            lines.append(
                f"{_where(each)} {one.name} | {one.median:.3f} | {one.p99:.3f} | {times:.2f} "
                f"| {answers} |"
            )
        lines += [
            f"{_where(each)} {one.name} | left out: {one.reason} | | | | |" for one in each.absent
        ]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _where(comparison: Comparison) -> str:
    return f"| {comparison.data} | {comparison.items:,} | {comparison.size} |"


def write(folder: Path, comparisons: Sequence[Comparison]) -> None:
    """Write engine.md, engine.json, and engine.svg where there are two sizes of catalogue."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "engine.md").write_text(table(comparisons), encoding="utf-8")
    document = {
        "k": K,
        "unit": "ms",
        "versions": _versions(),
        "comparisons": [
            asdict(each) | {"exact": each.exact, "masked_ratio": each.masked_ratio}
            for each in comparisons
        ],
    }
    text = json.dumps(document, indent=2, ensure_ascii=False)
    (folder / "engine.json").write_text(text + "\n", encoding="utf-8")
    sizes = {(each.data, each.size): set[int]() for each in comparisons}
    for each in comparisons:
        sizes[each.data, each.size].add(each.items)
    points = [
        Point(each.data, each.size, one.name, each.items, one.median)
        for each in comparisons
        if len(sizes[each.data, each.size]) > 1  # a line takes two
        for one in each.measured
    ]
    if points:
        (folder / "engine.svg").write_text(chart(points), encoding="utf-8")


def _versions() -> dict[str, str]:
    found = {}
    for package in ("c2rec", "numpy", "onnxruntime", "torch", "faiss-cpu", "usearch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found
