"""What could find a customer's best items in place of the engine: each in one function.

A rival is made for one catalogue and answers requests one at a time, in one thread. numpy and
PyTorch compute the formula of ``docs/release-format.md`` for every item. An index of inner products
can't: what a component weighs differs from item to item. It proposes candidates, the best by
each component with the item's bias, and those that the history speaks for most; the release's own
graph then scores these. Items between the components are missed, so such a rival has a recall.

faiss and usearch are no dependencies: ``pip install faiss-cpu usearch``. Where one is absent its
rivals are left out, with a note that says so.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from c2rec.runtime.engine.engine import Engine, Request
from c2rec.runtime.engine.scorer import Scorer, Source
from c2rec.runtime.ranking import top_k

if TYPE_CHECKING:
    from c2rec.runtime.release.manifest import AttentionName

K = 10
"""Items that are asked for."""
PROPOSED = 200
"""Candidates of each search, and of the neighbour term."""
LINKS = 16
"""Of a node of an HNSW graph, per layer; few, so that it is built within minutes."""
BUILD_WIDTH = 40
"""Nodes that are kept in view where an HNSW graph is built."""
SEARCH_WIDTH = 256
"""Nodes that are kept in view where it is searched."""

_Rows = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rival:
    """Who answers, or only reads."""

    name: str
    answer: Callable[[Request], _Rows | None]
    """Rows of the best k, best first; None from what is timed but answers nothing."""


@dataclass(frozen=True, slots=True)
class Absent:
    """Who could not be made, and why."""

    name: str
    reason: str


class Index(Protocol):
    """An index of inner products."""

    def __call__(self, queries: _Floats) -> _Rows:
        """Find, for float32 (q, d + 2), int64 (q, PROPOSED) rows; negative ones stand for none."""
        ...


def rivals(
    source: Source,
    engine: Engine,
    *,
    attention: "AttentionName",
    hnsw_limit: int,
    compiled: bool,
) -> Iterator[Rival | Absent]:
    """Make all of them, the plain graph first: its answer is what the others are held against.

    Args:
        source: a release that can also tell its ``channel_weights``, W_c / √d.
        engine: made of it.
        attention: how its graph makes weights of logits.
        hnsw_limit: no HNSW graph is built for more items.
        compiled: whether ``torch.compile`` is tried; it takes up to a minute.
    """
    yield plain(engine.scorer)
    yield Rival("engine", lambda request: engine.top_k(request, K).rows)
    yield in_numpy(source, engine.scorer, attention)
    yield in_torch(source, engine.scorer, attention)
    yield (
        compiled_torch(source, engine.scorer, attention)
        if compiled
        else Absent("torch.compile", "not asked for")
    )
    makers = {
        "faiss flat": faiss_flat,
        "faiss HNSW": faiss_hnsw,
        "usearch HNSW": usearch_hnsw,
    }
    vectors = _with_bias(source)
    for name, make in makers.items():
        if "HNSW" in name and engine.items > hnsw_limit:
            yield Absent(name, f"{engine.items:,} items; --hnsw-limit {hnsw_limit} allows no more")
            continue
        try:
            index = make(vectors)
        except ImportError:
            package = "faiss-cpu" if make is not usearch_hnsw else "usearch"
            yield Absent(name, f"it can't be imported; `pip install {package}`")
        else:
            yield proposing(name, index, source, engine.scorer)


def plain(scorer: Scorer, *, allowed: npt.NDArray[np.bool_] | None = None) -> Rival:
    """Score every item by the release's graph; with ``allowed``, bool (n,), find these alone."""

    def answer(request: Request) -> _Rows:
        ones = np.ones((1, len(request.history)), np.float32)
        history = request.history[None]  # (1, length)
        scores, _ = scorer.score(request.components, request.has, request.channel, history, ones)
        scores[:, request.left_out] = -np.inf
        if allowed is not None:
            scores[:, ~allowed] = -np.inf
        return _finite(scores[0], top_k(scores, K)[0])

    return Rival("plain graph", answer)


def in_numpy(source: Source, scorer: Scorer, attention: "AttentionName") -> Rival:
    """The formula in numpy, float32."""
    embeddings = source.array("item_embeddings")  # (n, d)
    bias, attention_bias = source.array("item_bias"), source.array("attention_bias")
    weights = source.array("channel_weights")  # (2, d, d)

    def answer(request: Request) -> _Rows:
        x, has = request.components[0], request.has[0, :, None]  # (3, d), (3, 1)
        both = np.concatenate([x, x @ weights[request.channel]])  # (6, d)
        products = both @ embeddings.T  # (6, n)
        logits = products[3:] + attention_bias[request.channel]  # (3, n)
        if attention == "softmax":
            logits = np.where(has, logits, np.float32(-1e9))
            logits -= logits.max(0)
            alpha = np.exp(logits)
            alpha /= alpha.sum(0)
        else:
            alpha = 1 / (1 + np.exp(-logits))
        alpha *= has
        scores = (alpha * products[:3]).sum(0) + bias[request.channel]  # (n,)
        np.add.at(scores, *_additions(scorer, request))
        return _finite(scores, top_k(scores[None], K)[0])

    return Rival("numpy", answer)


def in_torch(source: Source, scorer: Scorer, attention: "AttentionName") -> Rival:
    """The formula in PyTorch, operation by operation."""
    return _torch("PyTorch", _best, source, scorer, attention)


def compiled_torch(source: Source, scorer: Scorer, attention: "AttentionName") -> Rival | Absent:
    """The same, fused by ``torch.compile``, for this catalogue alone."""
    name = "torch.compile"
    torch.compiler.reset()  # else it would be compiled for catalogues of any size
    rival = _torch(name, torch.compile(_best), source, scorer, attention)
    size = source.array("item_embeddings").shape[1]
    components, has = np.zeros((1, 3, size), np.float32), np.ones((1, 3), np.bool_)
    try:
        # each length of a history is compiled for, until two were seen: then any
        for length in (2, 3):
            rival.answer(Request(components, has, 0, np.zeros(length, np.int64)))
    except Exception as error:  # what the compiler's own tools raise shares no base
        return Absent(name, f"does not work here: {(str(error).splitlines() or ['?'])[0]}")
    return rival


def faiss_flat(vectors: _Floats) -> Index:
    """faiss, every inner product."""
    faiss: Any = importlib.import_module("faiss")
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return lambda queries: index.search(queries, PROPOSED)[1]


def faiss_hnsw(vectors: _Floats) -> Index:
    """faiss, an HNSW graph."""
    faiss: Any = importlib.import_module("faiss")
    faiss.omp_set_num_threads(1)
    index = faiss.IndexHNSWFlat(vectors.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = BUILD_WIDTH, SEARCH_WIDTH
    index.add(vectors)
    return lambda queries: index.search(queries, PROPOSED)[1]


def usearch_hnsw(vectors: _Floats) -> Index:
    """usearch, an HNSW graph."""
    usearch: Any = importlib.import_module("usearch.index")
    index = usearch.Index(
        ndim=vectors.shape[1],
        metric="ip",
        dtype="f32",
        connectivity=LINKS,
        expansion_add=BUILD_WIDTH,
        expansion_search=SEARCH_WIDTH,
    )
    index.add(np.arange(len(vectors)), vectors, threads=1)

    def search(queries: _Floats) -> _Rows:
        found = index.search(queries, PROPOSED, threads=1)
        rows: _Rows = found.keys.reshape(len(queries), -1).astype(np.int64)
        counts = np.reshape(found.counts, -1)  # (q,), how many of each row were found
        rows[np.arange(rows.shape[1]) >= counts[:, None]] = -1
        return rows

    return search


def proposing(name: str, index: Index, source: Source, scorer: Scorer) -> Rival:
    """Score what an index proposes, and what the history speaks for most."""
    items, size = source.array("item_embeddings").shape
    place = np.full(items, -1, np.int32)

    def answer(request: Request) -> _Rows:
        x = request.components[0][request.has[0]]  # (q, d)
        queries = np.zeros((len(x), size + 2), np.float32)
        queries[:, :size] = x
        queries[:, size + request.channel] = 1
        named, said = scorer.neighbours(request.channel, request.history)
        loudest = named[np.argsort(-said)[:PROPOSED]]
        rows = np.unique(np.concatenate([index(queries).reshape(-1), loudest]))
        rows = rows[rows >= 0].astype(np.int64)
        rows = rows[~np.isin(rows, request.left_out)]
        place[rows] = np.arange(len(rows), dtype=np.int32)
        places = place.take(named)
        place[rows] = -1
        scores, _ = scorer.score_rows(rows, *request[:4], places=places)
        best: _Rows = rows[np.lexsort((rows, -scores))[:K]]
        return best

    return Rival(name, answer)


def floors(source: Source, codes: int) -> list[Rival]:
    """What reading the item side once takes: as the engine's 8-bit integers, and as float32.

    Args:
        source: a release.
        codes: into how many arrays the integers are cut.
    """
    pieces = [source.array(f"scan/codes/{number}") for number in range(codes)]
    embeddings = source.array("item_embeddings")
    return [
        Rival("read int8", lambda _: _read(*pieces)),
        Rival("read float32", lambda _: _read(embeddings)),
    ]


def _read(*arrays: npt.NDArray[Any]) -> None:
    for array in arrays:
        array.reshape(-1).view(np.int8).max()  # of all that numpy can do, among the quickest


def _torch(
    name: str,
    best: Callable[..., torch.Tensor],
    source: Source,
    scorer: Scorer,
    attention: "AttentionName",
) -> Rival:
    torch.set_num_threads(1)
    embeddings = _tensor(source.array("item_embeddings"))
    weights, biases, attention_biases = (
        list(_tensor(source.array(each)))
        for each in ("channel_weights", "item_bias", "attention_bias")
    )  # one for each channel

    def answer(request: Request) -> _Rows:
        named, said = _additions(scorer, request)
        with torch.inference_mode():
            rows = best(
                torch.from_numpy(request.components[0]),
                torch.from_numpy(request.has[0]),
                weights[request.channel],
                embeddings,
                biases[request.channel],
                attention_biases[request.channel],
                torch.from_numpy(named),
                torch.from_numpy(said),
                attention == "sigmoid",
            )
        found: _Rows = rows.numpy()
        return found

    return Rival(name, answer)


def _best(
    x: torch.Tensor,
    has: torch.Tensor,
    weight: torch.Tensor,
    embeddings: torch.Tensor,
    bias: torch.Tensor,
    attention_bias: torch.Tensor,
    named: torch.Tensor,
    said: torch.Tensor,
    sigmoid: bool,
) -> torch.Tensor:
    """Rows of the best k, int64 (k,), of what is float32 but for ``has`` and ``named``."""
    both = torch.cat([x, x @ weight])  # (6, d)
    products = both @ embeddings.T  # (6, n)
    logits = products[3:] + attention_bias  # (3, n)
    if sigmoid:
        alpha = torch.sigmoid(logits)
    else:
        alpha = torch.softmax(logits.masked_fill(~has[:, None], -1e9), 0)
    alpha = alpha * has[:, None]
    scores = (alpha * products[:3]).sum(0) + bias  # (n,)
    scores = scores.index_add(0, named, said)
    return torch.topk(scores, min(K, len(scores))).indices


def _tensor(array: npt.NDArray[Any]) -> torch.Tensor:
    """Share an array's memory, where it is not read only."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _additions(scorer: Scorer, request: Request) -> tuple[_Rows, _Floats]:
    """What the neighbour term adds to which rows; -inf to those that may not be found."""
    named, said = scorer.neighbours(request.channel, request.history)
    away = np.full(len(request.left_out), -np.inf, np.float32)
    rows: _Rows = np.concatenate([named, request.left_out]).astype(np.int64)
    return rows, np.concatenate([said, away])


def _finite(scores: _Floats, rows: _Rows) -> _Rows:
    """Leave out what may not be found."""
    found: _Rows = rows[scores[rows] > -np.inf]
    return found


def _with_bias(source: Source) -> _Floats:
    """Item vectors whose product with [x_k; 1 for the channel] is x_k · y + b_c: (n, d + 2)."""
    return np.concatenate([source.array("item_embeddings"), source.array("item_bias").T], axis=1)
