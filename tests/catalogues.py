"""Catalogues and requests made to break the engine, and the answer by brute force."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from c2rec.export.graph import bare_scorer_graph
from c2rec.runtime.engine.engine import Engine, Filter, Found, Request
from c2rec.runtime.release.manifest import AttentionName
from c2rec.runtime.release.quantise import quantise

Array = npt.NDArray[Any]


@cache
def graph(attention: AttentionName) -> bytes:
    content: bytes = bare_scorer_graph(attention).SerializeToString()
    return content


class Arrays:
    """A source made of arrays."""

    def __init__(self, arrays: dict[str, Array], attention: AttentionName = "softmax") -> None:
        self._arrays, self._attention = arrays, attention
        scanned = quantise(arrays["item_embeddings"], arrays["item_bias"], 2.0)
        self._arrays = arrays | {f"scan/{name}": array for name, array in scanned}

    def graph(self, name: str) -> bytes:
        assert name == "scorer.onnx"
        return graph(self._attention)

    def array(self, name: str) -> Array:
        return self._arrays[name]


KINDS = (
    "plain",
    "ties",
    "equal items",
    "huge and tiny norms",
    "one huge item",
    "denormal",
    "negative",
    "zeros",
    "one-hot",
    "large bias",
    "loud neighbours",
    "flat attention",
    "steep attention",
)


def arrays(rng: np.random.Generator, kind: str, items: int, size: int) -> dict[str, Array]:
    """Item arrays of a kind that is hard on a bound."""
    y = rng.normal(size=(items, size))
    bias, weights = rng.normal(0, 0.5, (2, items)), rng.normal(0, 0.2, (2, size, size))
    attention = rng.normal(0, 0.5, (2, 3, items))
    m = int(rng.choice([1, 3, 8, 40]))
    said = rng.normal(0, 1, (items, 2, m))
    if kind == "ties":
        y, bias = np.round(y), np.round(bias)
        attention, said = np.zeros_like(attention), np.round(said)
        y[rng.integers(0, items, items // 2)] = y[0]
    elif kind == "equal items":
        y[:], bias[:], attention[:] = y[0], bias[:, :1], attention[..., :1]
        said[:] = 0
    elif kind == "huge and tiny norms":
        y *= 10 ** rng.uniform(-20, 12, (items, 1))
        weights *= 1e-6
    elif kind == "one huge item":
        y[rng.integers(items)] *= 1e9
        weights *= 1e-9
    elif kind == "denormal":
        y *= 10 ** rng.uniform(-45, -30, (items, 1))
        bias *= 10 ** rng.uniform(-45, -30)
        said *= 0
    elif kind == "negative":
        y, bias = -np.abs(y), -np.abs(bias) - 3
    elif kind == "zeros":
        y[rng.random(items) < 0.5] = 0
        bias[:] = 0
        said *= 0
    elif kind == "one-hot":
        y *= rng.random((items, size)) < 1 / size
    elif kind == "large bias":
        bias *= 1e4
    elif kind == "loud neighbours":
        said *= 1000
    elif kind == "flat attention":
        weights *= 0
        attention *= 0
    elif kind == "steep attention":
        weights *= 100
    return {
        "item_embeddings": y.astype(np.float32),
        "item_bias": bias.astype(np.float32),
        "attention_bias": attention.astype(np.float32),
        "channel_weights": weights.astype(np.float32),
        # a row may name an item more than once
        "neighbour_items": rng.integers(0, items, (items, m)).astype(np.int32),
        "neighbour_weights": said.astype(np.float16),
    }


def request(rng: np.random.Generator, items: int, size: int, kind: str) -> Request:
    """A customer: alike or unlike components, some missing, with or without a history."""
    x = rng.normal(size=(3, size)) + rng.choice([0, 3]) * rng.normal(size=size)
    if kind in ("ties", "equal items"):
        x = np.round(x)
    if kind == "negative":
        x = np.abs(x)
    x *= rng.choice([0, 1e-12, 0.1, 1, 1, 1, 30])
    has = rng.random((1, 3)) < rng.choice([0.3, 1])
    history = rng.integers(0, items, rng.choice([0, 1, 7, 30, 400], p=[0.2, 0.2, 0.3, 0.28, 0.02]))
    left_out = rng.integers(0, items, rng.choice([0, 1, 20]))
    return Request(x[None].astype(np.float32), has, int(rng.integers(2)), history, left_out)


@dataclass(frozen=True)
class Case:
    kind: str
    engine: Engine
    requests: list[Request]
    k: int
    only: Filter | None


def cases(rng: np.random.Generator, attention: AttentionName, *, requests: int) -> Iterator[Case]:
    """One catalogue of each kind, and requests with several filters and k."""
    for kind in KINDS:
        items, size = int(rng.integers(1, 700)), int(rng.choice([1, 2, 7, 16, 33]))
        engine = Engine(Arrays(arrays(rng, kind, items, size), attention), attention=attention)
        for share in (None, 0.5, 0.2, 0.01, 0.0):
            only = None
            if share is not None:
                flags = rng.random(items) < share
                flags[rng.integers(items)] |= share == 0  # all but one
                only = engine.filter(flags)
            some = [request(rng, items, size, kind) for _ in range(requests)]
            k = int(rng.choice([1, 3, 10, 100, items, items + 5]))
            yield Case(kind, engine, some, k, only)


def brute_force(engine: Engine, request: Request, k: int, only: Filter | None) -> Found:
    """The best by the release's graph over the whole catalogue."""
    components, has, channel, history, left_out = request
    ones = np.ones((1, len(history)), np.float32)
    (scores,), (attention,) = engine.scorer.score(components, has, channel, history[None], ones)
    allowed = np.ones(engine.items, np.bool_)
    if only is not None:
        allowed[:] = False
        allowed[only.rows] = True
    allowed[left_out] = False
    rows = np.flatnonzero(allowed)
    best = rows[np.argsort(-scores[rows], kind="stable")[:k]]
    return Found(best, scores[best], attention[:, best], 0, 0, widened=False)
