"""Whether onnxruntime gives, here, the answers that PyTorch gave where the release was made."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from c2rec.runtime.engine.engine import Engine, Request
from c2rec.runtime.engine.scorer import Encoder, Source
from c2rec.runtime.errors import ReleaseError
from c2rec.runtime.ranking import top_k
from c2rec.runtime.records import CHANNELS
from c2rec.runtime.release.manifest import Manifest

ABSOLUTE = 1e-5
RELATIVE = 1e-5
"""Floats agree within ``ABSOLUTE + RELATIVE * |expected|``."""

_Floats = npt.NDArray[np.float32]


class Model(Source, Protocol):
    """One model of a release; a ``Cache`` is one, and an ``ArmSide``."""

    def manifest(self) -> Manifest:
        """What manifest.json says of it."""
        ...


def check_golden(cache: Model) -> None:
    """Run the golden inputs of a model.

    Raises:
        ReleaseError: an answer differs by more than the format allows, or a graph can't be run.
        HomeError: the cache can't be read.
    """
    golden = {name: cache.array(f"golden/{name}") for name in ("components", "has")}
    golden |= {name: cache.array(f"golden/{name}") for name in ("top_items", "top_scores")}
    attention = cache.array("golden/top_attention")  # (2, g, k, 3)
    history = ("history_items", "history_channels", "history_weights")
    bought, channels, weights = (cache.array(f"golden/{name}") for name in history)  # (g, length)
    has = golden["has"].astype(np.bool_)
    manifest = cache.manifest()
    items = manifest.counts.items
    if manifest.encoder == "history":
        encoded = Encoder(cache).encode(bought, channels, weights)
        _check_encoded(*encoded, golden["components"], has)
    engine = Engine(cache, attention=manifest.attention)
    scorer = engine.scorer
    # One customer at a time: scores of all of them together could be gigabytes.
    for row in range(len(has)):
        one = slice(row, row + 1)
        for channel, channel_name in enumerate(CHANNELS):
            where = f"golden customer {row}, channel {channel_name}"
            scores, alphas = scorer.score(
                golden["components"][one], has[one], channel, bought[one], weights[one]
            )
            _check_shape(where, scores, (1, items))
            _check_shape(where, alphas, (1, 3, items))
            expected_items = golden["top_items"][channel, row]  # (k,)
            expected = golden["top_scores"][channel, row]  # (k,)
            _check_close(f"{where}: scores", scores[0][expected_items], expected)
            _check_close(
                f"{where}: attention", alphas[0][:, expected_items].T, attention[channel, row]
            )
            # Position by position the scores must agree: that allows another item only where the
            # two lie closer than the tolerance.
            best = top_k(scores, len(expected_items))[0]
            _check_close(f"{where}: scores of the top {len(best)}", scores[0][best], expected)
            request = Request(
                golden["components"][one], has[one], channel, bought[row][weights[row] > 0]
            )
            found = engine.top_k(request, len(best))
            _check_close(f"{where}: scores found by the engine", found.scores, expected)
            _check_close(f"{where}: scores of what it found", scores[0][found.rows], expected)


def _check_encoded(
    encoded: _Floats,
    encoded_has: npt.NDArray[np.bool_],
    components: _Floats,
    has: npt.NDArray[np.bool_],
) -> None:
    _check_shape("golden histories", encoded, components.shape)
    _check_shape("golden histories", encoded_has, has.shape)
    _check_close("golden histories: components", encoded, components)
    if not np.array_equal(encoded_has, has):
        raise ReleaseError("golden histories: encoder.onnx gives another `has` than the release")


def _check_shape(where: str, got: npt.NDArray[Any], expected: tuple[int, ...]) -> None:
    if got.shape != expected:
        raise ReleaseError(f"{where}: a graph answers {got.shape}; allowed: {expected}")


def _check_close(where: str, got: _Floats, expected: _Floats) -> None:
    difference = np.abs(got - expected)
    # `not <=` rather than `>`: a NaN must not pass
    wrong = ~(difference <= ABSOLUTE + RELATIVE * np.abs(expected))
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0])
        raise ReleaseError(
            f"{where} differ from the release's: {got[at]} instead of {expected[at]}, "
            f"allowed within {ABSOLUTE} + {RELATIVE} relative; this release can't be used here"
        )
