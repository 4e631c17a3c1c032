"""The two graphs of a release, run by onnxruntime."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from c2rec.runtime.errors import ReleaseError

if TYPE_CHECKING:
    from c2rec.runtime.cache import Cache

_CPU = ["CPUExecutionProvider"]


class Scorer:
    """Scores of the whole catalogue.

    Args:
        cache: an open release, of n items and embedding size d.
        threads: threads for one request. One by default, for a kiosk has other work to do.

    Raises:
        ReleaseError: onnxruntime can't load the graph.
        HomeError: the cache is damaged.
    """

    def __init__(self, cache: "Cache", *, threads: int = 1) -> None:
        self._session = _session(cache, "scorer.onnx", threads)
        names = ["item_embeddings", "item_bias", "attention_bias"]
        names += ["neighbour_items", "neighbour_weights"]
        self._arrays = {name: cache.array(name) for name in names}

    def score(
        self,
        components: npt.NDArray[np.float32],
        has: npt.NDArray[np.bool_],
        channel: int,
        history_items: npt.NDArray[np.int64],
        history_weights: npt.NDArray[np.float32],
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
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
        feeds = {
            "components": components,
            "has": has,
            "channel": np.array(channel, np.int64),
            "history_items": history_items,
            "history_weights": history_weights,
        }
        scores, attention = _run(self._session, ["scores", "attention"], feeds | self._arrays)
        return scores, attention


class Encoder:
    """Embeddings of a customer from what was bought; arguments and errors as of ``Scorer``."""

    def __init__(self, cache: "Cache", *, threads: int = 1) -> None:
        self._session = _session(cache, "encoder.onnx", threads)
        self._source = cache.array("source_embeddings")  # (n, d)

    def encode(
        self,
        items: npt.NDArray[np.int64],
        channels: npt.NDArray[np.int64],
        weights: npt.NDArray[np.float32],
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
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
            "source_embeddings": self._source,
            "history_items": items,
            "history_channels": channels,
            "history_weights": weights,
        }
        components, has = _run(self._session, ["components", "has"], feeds)
        return components, has


def _session(cache: "Cache", name: str, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Threads that spin between paced requests burn a core each.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only: they are raised as well
    graph = cache.graph(name)
    try:
        return onnxruntime.InferenceSession(graph, options, providers=_CPU)
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
