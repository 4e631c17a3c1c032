"""The scorer's formula in PyTorch eager, for ``bench`` to compare with where torch happens to be.

A kiosk has no torch and this package never needs it, so no import statement names it here
(``tests/test_layers.py`` refuses one): ``bench`` asks by name, and does without where it is absent.
"""

import importlib
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from c2rec.runtime.engine.engine import Request
from c2rec.runtime.engine.scorer import Source

if TYPE_CHECKING:
    from c2rec.runtime.release.manifest import AttentionName

TopK: TypeAlias = Callable[[Request, int], tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]
"""Finds the k best of a whole catalogue: int64 (k,) rows, best first, and float32 (k,) scores."""

MASKED = -1e9
"""Logit of a component that the customer has no data for, as in the graph."""


def eager_top_k(
    source: Source,
    weights: npt.NDArray[np.float32],
    attention: "AttentionName",
) -> TopK | None:
    """Make a function that scores the whole catalogue and picks the best, on one thread.

    From then on all of PyTorch in this process uses one thread.

    Args:
        source: a release, of n items and embedding size d.
        weights: float32 (2, d, d), W_c / √d.
        attention: how weights are made of logits.

    Returns:
        None where torch is not installed, or can't be loaded.
    """
    try:
        torch: Any = importlib.import_module("torch")
    except (ImportError, OSError):  # OSError: one of its libraries is missing
        return None
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a release's arrays are read only, and nothing writes here
        turn = torch.from_numpy(weights)
        y, bias, attention_bias, named, said = (
            torch.from_numpy(source.array(name))
            for name in (
                *("item_embeddings", "item_bias", "attention_bias"),
                *("neighbour_items", "neighbour_weights"),
            )
        )

    def top_k(request: Request, k: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        channel, history = request.channel, torch.from_numpy(request.history)
        x = torch.from_numpy(request.components[0])  # (3, d)
        has = torch.from_numpy(request.has[0])[:, None]  # (3, 1)
        products = torch.cat([x, x @ turn[channel]]) @ y.T  # (6, n)
        affinities, logits = products[:3], products[3:] + attention_bias[channel]  # (3, n) each
        logits = torch.where(has, logits, MASKED)
        alpha = torch.sigmoid(logits) if attention == "sigmoid" else torch.softmax(logits, 0)
        scores = (alpha * has * affinities).sum(0) + bias[channel]  # (n,)
        spoken = said[history, channel].float() / max(1, len(history))  # (length, m)
        scores.index_add_(0, named[history].reshape(-1), spoken.reshape(-1))
        scores[torch.from_numpy(request.left_out)] = -torch.inf
        best = torch.topk(scores, min(k, len(scores) - len(request.left_out)))
        return best.indices.numpy(), best.values.numpy()

    answer: TopK = torch.inference_mode()(top_k)
    return answer
