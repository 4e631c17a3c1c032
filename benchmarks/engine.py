"""How long the engine takes for one customer's ten best items, beside what could do it instead.

Run from the checkout::

    python -m benchmarks.engine [--items 10000,100000,1000000] [--dims 64,128] [--out FOLDER]
    python -m benchmarks.engine --items "" --release BUNDLE

The engine is held against the release's graph over all items, numpy, PyTorch, indexes of inner
products (``rivals.py``; ``pip install faiss-cpu usearch`` for these), and against the floor: a
read of the item side from memory. All answer the same requests, in one thread, in turns of some
requests each, so that a change in the machine's load falls on all alike. The catalogues are random,
of four kinds, or come from bundles as ``c2rec-export bundle`` writes them.

The exit status is 1 where an answer of the engine is not the plain graph's own top ten.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from benchmarks.comparison import LEAST_REQUESTS, Comparison, Data, compare
from benchmarks.engine_report import table, write
from benchmarks.trained import trained
from c2rec.runtime.engine.synthetic import RandomRelease

if TYPE_CHECKING:
    from c2rec.runtime.release.manifest import AttentionName

KINDS = {
    "popular, correlated": {"popular": True, "correlated": True},
    "popular, uncorrelated": {"popular": True, "correlated": False},
    "flat, correlated": {"popular": False, "correlated": True},
    "flat, uncorrelated": {"popular": False, "correlated": False},
}
"""Of random catalogues: whether few items sell far more, and whether tastes are alike."""
MOST_SCORES = 50_000_000
"""Items times requests: of a larger catalogue fewer requests are timed."""
SEED = 1
"""Of the catalogues."""


def _catalogues(
    options: argparse.Namespace,
) -> Iterator[tuple[Data, str, "AttentionName"]]:
    for bundle in options.release:
        with trained(bundle) as (data, attention):
            yield data, f"trained ({bundle.name})", attention
    for items in options.items:
        for size in options.dims:
            for kind in options.kinds:
                yield RandomRelease(items, size, SEED, **KINDS[kind]), kind, "softmax"


def _numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",") if each]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--items", type=_numbers, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--dims", type=_numbers, default=[64, 128])
    parser.add_argument(
        "--kinds",
        type=lambda text: [each.strip() for each in text.split(";")],
        default=list(KINDS),
        help=f"of random catalogues, by semicolons: {'; '.join(KINDS)}",
    )
    parser.add_argument(
        "--release", type=Path, action="append", default=[], help="a bundle; may be repeated"
    )
    parser.add_argument("--out", type=Path, help="folder for engine.md, engine.json and engine.svg")
    parser.add_argument("--requests", type=int, default=200, help="timed, on each catalogue")
    parser.add_argument(
        "--hnsw-limit", type=int, default=200_000, help="most items to build an HNSW graph of"
    )
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument(
        "--quick", action="store_true", help="two small catalogues, 16 requests, no torch.compile"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if unknown := set(options.kinds) - KINDS.keys():
        parser.error(f"--kinds {'; '.join(unknown)}; allowed: {'; '.join(KINDS)}")
    if options.quick:
        options.items, options.dims, options.requests = [3_000, 10_000], [64], 16
        options.kinds, options.no_compile = list(KINDS)[:1], True
    comparisons: list[Comparison] = []
    with threadpool_limits(limits=1):
        for data, name, attention in _catalogues(options):
            items = len(data.array("item_bias")[0])
            comparison = compare(
                data,
                name,
                requests=min(options.requests, max(LEAST_REQUESTS, MOST_SCORES // items)),
                hnsw_limit=options.hnsw_limit,
                compiled=not options.no_compile,
                attention=attention,
            )
            comparisons.append(comparison)
            engine = comparison.of("engine")
            print(
                f"{name}, {items:,} items, d = {comparison.size}: {engine.median:.3f} ms, "
                f"{engine.median / comparison.of('plain graph').median:.2f} of the plain graph, "
                f"{engine.median / comparison.of('read int8').median:.2f} of a read; "
                f"{'exact' if comparison.exact else 'NOT EXACT'}; "
                f"{comparison.widened:.0%} widened",
                file=sys.stderr,
                flush=True,
            )
            if options.out:
                write(options.out, comparisons)  # what was found is kept if the rest is stopped
    print(table(comparisons), end="")
    return 0 if all(each.exact for each in comparisons) else 1


if __name__ == "__main__":
    sys.exit(main())
