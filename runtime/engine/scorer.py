"""The two graphs of a release, run by onnxruntime."""

from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from c2rec.runtime.engine.ort import onnxruntime
from c2rec.runtime.errors import ReleaseError

CPU = ["CPUExecutionProvider"]

FEWEST = 65
"""Columns from which on onnxruntime's float32 product adds up in the same pieces as for many."""

_Floats = npt.NDArray[np.float32]
_Rows = npt.NDArray[np.int64]
_NOTHING = np.float16(-0.0)
"""Adds nothing, not even to -0."""
_NOBODY_NAMED = np.zeros((1, 1), np.int32)
_NOTHING_SAID = np.full((1, 2, 1), _NOTHING)


class Source(Protocol):
    """Where graphs and arrays come from; a ``Cache`` is one. Both raise HomeError."""

    def graph(self, name: str) -> bytes:
        """Content of ``scorer.onnx`` or ``encoder.onnx``."""
        ...

    def array(self, name: str) -> npt.NDArray[Any]:
        """An array of a release, by the name that ``Cache.array`` takes."""
        ...


class Scorer:
    """Scores of the whole catalogue, or of some of its items.

    Args:
        source: a release, of n items and embedding size d.
        threads: threads for one request. One by default, for a kiosk has other work to do.

    Raises:
        ReleaseError: onnxruntime can't load the graph.
        HomeError: the cache is damaged.
    """

    def __init__(self, source: Source, *, threads: int = 1) -> None:
        self._session = open_session("scorer.onnx", source.graph("scorer.onnx"), threads)
        self._embeddings = source.array("item_embeddings")  # (n, d)
        self._bias = source.array("item_bias")  # (2, n)
        self._attention_bias = source.array("attention_bias")  # (2, 3, n)
        self._named = source.array("neighbour_items")  # (n, m)
        self._said = source.array("neighbour_weights")  # (n, 2, m)
        self._said_by_channel = self._said.reshape(2 * self.items, self._said.shape[2])  # (2n, m)
        self._weights = {}
        if any(each.name == "channel_weights" for each in self._session.get_inputs()):
            self._weights = {"channel_weights": source.array("channel_weights")}

    @property
    def items(self) -> int:
        """How many items there are, n."""
        return len(self._embeddings)

    def score(
        self,
        components: _Floats,
        has: npt.NDArray[np.bool_],
        channel: int,
        history_items: _Rows,
        history_weights: _Floats,
    ) -> tuple[_Floats, _Floats]:
        """Score every item for a batch of customers in one channel.

        Args:
            components: float32 (b, 3, d), x_k.
            has: bool (b, 3), which of them the customer has data for.
            channel: 0 offline, 1 online.
            history_items: int64 (b, length), rows of the items bought in any channel, for the
                neighbour term; any row where the weight is 0.
            history_weights: float32 (b, length), 1 for a purchase, 0 for padding.

        Returns:
            scores float32 (b, n), and attention float32 (b, 3, n): α, 0 where ``has`` is false.

        Raises:
            ReleaseError: onnxruntime can't run the graph on these arrays.
        """
        named, said = self._named, self._said
        if not (history_items.shape[1] and named.shape[1]):
            # onnxruntime before 1.27 may divide by the length of an axis: 0 ends the process
            nothing = np.zeros((len(components), 1), np.int64)
            history_items, history_weights = nothing, nothing.astype(np.float32)
            named, said = _NOBODY_NAMED, _NOTHING_SAID
        feeds = {
            "components": components,
            "has": has,
            "channel": np.array(channel, np.int64),
            "item_embeddings": self._embeddings,
            "item_bias": self._bias,
            "attention_bias": self._attention_bias,
            "history_items": history_items,
            "history_weights": history_weights,
            "neighbour_items": named,
            "neighbour_weights": said,
        }
        scores, attention = _run(self._session, ["scores", "attention"], feeds | self._weights)
        return scores, attention

    def score_rows(
        self,
        rows: _Rows,
        components: _Floats,
        has: npt.NDArray[np.bool_],
        channel: int,
        history: _Rows,
        *,
        places: npt.NDArray[np.int32] | None = None,
    ) -> tuple[_Floats, _Floats]:
        """Score some items for one customer: the same graph, on these items' rows alone.

        Each score is added up in the same order as when the whole catalogue is scored, so with
        one thread it is the same number; another runtime may differ by rounding.

        Args:
            rows: int64 (r,), each at most once.
            components: as of ``score``, b = 1.
            has: as of ``score``.
            channel: as of ``score``.
            history: int64 (length,), rows of the items bought in any channel.
            places: int32 (length * m,), where among ``rows`` each item stands that
                ``neighbours`` names, or -1; None to look for them.

        Returns:
            scores float32 (r,) and attention float32 (3, r).

        Raises:
            ReleaseError: as of ``score``.
        """
        if not len(rows):
            return np.empty(0, np.float32), np.empty((3, 0), np.float32)
        named = self._named.take(history, axis=0)  # (length, m)
        if places is None:
            place = np.full(self.items, -1, np.int32)
            place[rows] = np.arange(len(rows), dtype=np.int32)
            places = place.take(named).reshape(-1)
        kept = np.flatnonzero(places >= 0)  # (kept,), by purchase and then by entry
        purchase, entry = np.divmod(kept, named.shape[1])
        weights = self._said[history[purchase], channel, entry]
        said = Said(np.zeros(len(kept), np.int64), places[kept], weights)
        counts = shares(np.array([len(history)]))
        scores, attention = self.score_some(rows, components, has, channel, counts, said)
        return scores[0], attention[0]

    def score_some(
        self,
        rows: _Rows,
        components: _Floats,
        has: npt.NDArray[np.bool_],
        channel: int,
        counted: _Floats,
        said: "Said",
    ) -> tuple[_Floats, _Floats]:
        """Score some items for a batch of customers in one channel, bit by bit as ``score_rows``.

        Args:
            rows: int64 (r,), each at most once.
            components: as of ``score``.
            has: as of ``score``.
            channel: as of ``score``.
            counted: float32 (b,), what each purchase of a customer counts, as of ``shares``.
            said: what the customers' histories say of these items.

        Returns:
            scores float32 (b, r) and attention float32 (b, 3, r).

        Raises:
            ReleaseError: as of ``score``.
        """
        batch, count = len(components), len(rows)
        if not count:
            return np.empty((batch, 0), np.float32), np.empty((batch, 3, 0), np.float32)
        # Fewer columns would be added up in pieces of another length where d is above 128.
        padded = max(count, FEWEST) if self._embeddings.shape[1] > 128 else count
        # The graph sees the rows as a catalogue. What a purchase says of other items is left out,
        # and the rest made to look like one purchase of each customer, of the same share.
        counts = np.bincount(said.customers, minlength=batch)  # (b,)
        starts = np.cumsum(counts) - counts
        entry = np.arange(len(said.customers)) - starts.take(said.customers)
        # an empty axis would do as well, but not in every runtime
        shape = batch, max(1, int(counts.max()))
        named = np.zeros(shape, np.int32)
        named[said.customers, entry] = said.places
        weights = np.full((batch, 2, shape[1]), _NOTHING)
        weights[said.customers, channel, entry] = said.weights
        # Of arrays with a row per channel, the graph reads one.
        embeddings = self._embeddings.take(rows, axis=0)
        if padded > count:
            embeddings = np.pad(embeddings, ((0, padded - count), (0, 0)))
        bias = np.zeros((2, padded), np.float32)
        bias[channel, :count] = self._bias[channel].take(rows)
        attention_bias = np.zeros((2, 3, padded), np.float32)
        attention_bias[channel, :, :count] = self._attention_bias[channel].take(rows, axis=1)
        feeds = {
            "components": components,
            "has": has,
            "channel": np.array(channel, np.int64),
            "item_embeddings": embeddings,
            "item_bias": bias,
            "attention_bias": attention_bias,
            "history_items": np.arange(batch)[:, None],
            "history_weights": counted[:, None],
            "neighbour_items": named,
            "neighbour_weights": weights,
        }
        scores, attention = _run(self._session, ["scores", "attention"], feeds | self._weights)
        return scores[:, :count], attention[..., :count]

    def entries(
        self, channel: int, history: _Rows
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float16]]:
        """What purchases say of other items in one channel, before it is shared among them.

        Args:
            channel: 0 offline, 1 online.
            history: int64 (length,), rows of the items bought in any channel.

        Returns:
            int32 (length, m) rows, an item as often as it is named, and float16 (length, m).
        """
        said = self._said_by_channel.take(2 * history + channel, axis=0)  # (length, m)
        return self._named.take(history, axis=0), said

    def neighbours(self, channel: int, history: _Rows) -> tuple[npt.NDArray[np.int32], _Floats]:
        """What a history says of other items in one channel.

        Args:
            channel: 0 offline, 1 online.
            history: int64 (length,), rows of the items bought in any channel.

        Returns:
            int32 (length * m,) rows, an item as often as it is named, and float32 (length * m,)
            what is added to its score each time.
        """
        named, said = self.entries(channel, history)
        return named.reshape(-1), said.reshape(-1) * shares(np.array([len(history)]))


def shares(lengths: _Rows) -> _Floats:
    """What each purchase counts in histories of these lengths; float32, one for each."""
    return np.float32(1) / np.maximum(lengths, 1).astype(np.float32)


class Said(NamedTuple):
    """What customers' histories say of some items; an array's entry for each mention.

    A customer's mentions stand together, by purchase and then by entry.
    """

    customers: _Rows
    """int64, ascending"""
    places: npt.NDArray[np.int32]
    """int32, where among the items the one stands that is named"""
    weights: npt.NDArray[np.float16]
    """float16, what is said, before it is shared among the purchases"""


class Encoder:
    """Embeddings of a customer from what was bought; arguments and errors as of ``Scorer``."""

    def __init__(self, source: Source, *, threads: int = 1) -> None:
        self._session = open_session("encoder.onnx", source.graph("encoder.onnx"), threads)
        self._source = source.array("source_embeddings")  # (n, d)

    def encode(
        self,
        items: _Rows,
        channels: npt.NDArray[np.int64],
        weights: _Floats,
    ) -> tuple[_Floats, npt.NDArray[np.bool_]]:
        """Encode a batch of histories of one length.

        Args:
            items: int64 (b, length), rows of items; any row where the weight is 0.
            channels: int64 (b, length), 0 offline, 1 online.
            weights: float32 (b, length), 1 for a purchase, 0 for padding.

        Returns:
            components float32 (b, 3, d), and has bool (b, 3).

        Raises:
            ReleaseError: onnxruntime can't run the graph on these arrays.
        """
        feeds = {
            "source_embeddings": self._source[items.reshape(-1)],  # the catalogue may be large
            "history_items": np.arange(items.size).reshape(items.shape),
            "history_channels": channels,
            "history_weights": weights,
        }
        components, has = _run(self._session, ["components", "has"], feeds)
        return components, has


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Options of every session: lean, for the machine has other work to do."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Threads that spin between paced requests burn a core each.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only: they are raised as well
    return options


def open_session(name: str, graph: bytes, threads: int) -> onnxruntime.InferenceSession:
    """Load a graph.

    Raises:
        ReleaseError: onnxruntime can't.
    """
    try:
        return onnxruntime.InferenceSession(graph, session_options(threads), providers=CPU)
    except Exception as error:  # its classes share no base but Exception
        raise ReleaseError(f"{name}: onnxruntime can't load it: {_first_line(error)}") from error


def _run(session: onnxruntime.InferenceSession, outputs: list[str], feeds: dict[str, Any]) -> Any:
    try:
        return session.run(outputs, feeds)
    except Exception as error:  # its classes share no base but Exception
        raise ReleaseError(
            f"onnxruntime can't run the release's graph: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
