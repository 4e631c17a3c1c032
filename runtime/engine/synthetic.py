"""A release made at random, of any size: what ``bench`` and the benchmarks measure on.

Its figures are those of a release trained on real purchases: a few items sell far more than the
rest, items come in families, a customer's three components come from one history, and a purchase
speaks for items of its family and for others, mostly a little. Each of these can be turned off, for
each makes the search for the best easier.
"""

from functools import cached_property
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from c2rec.runtime.engine.engine import Request
from c2rec.runtime.release.quantise import quantise

NEIGHBOURS = 256
"""Entries per row of the neighbour term, as ``fit`` makes them."""
NEIGHBOUR_BYTES = 1 << 29
"""Larger catalogues have fewer."""
_FAMILY = 50
_POOL = 4096


class RandomRelease:
    """Graphs and arrays of a made-up release: a ``Source`` for ``Engine`` and ``Scorer``.

    Args:
        items: n, at least 1.
        size: d, the embedding size.
        seed: of all that is random.
        correlated: whether a customer's components come from one history; else each is drawn alone.
        popular: whether few items have a large bias; else biases are drawn from one normal.
    """

    def __init__(
        self, items: int, size: int, seed: int, *, correlated: bool = True, popular: bool = True
    ) -> None:
        self._rng = rng = np.random.default_rng(seed)
        self.items, self.size, self.correlated = items, size, correlated

        def normal(*shape: int) -> npt.NDArray[np.float32]:
            return rng.standard_normal(shape, np.float32)

        self._family = rng.integers(0, -(-items // _FAMILY), items)  # (n,)
        centres = normal(-(-items // _FAMILY), size)
        y = (0.8 * centres[self._family] + 0.6 * normal(items, size)) * np.float32(1.2 / size**0.5)
        self._sources = y + normal(items, size) * np.float32(0.4 / size**0.5)  # (n, d)
        sold = rng.gamma(0.4, 1.8, items) - 0.9 if popular else rng.normal(0, 0.5, items)
        m = max(8, min(NEIGHBOURS, NEIGHBOUR_BYTES // (8 * items)))
        said = np.sort(rng.gamma(0.35, 4, (_POOL, 2, m)) - 0.5)[..., ::-1].astype(np.float16)
        self._arrays: dict[str, npt.NDArray[Any]] = {
            "item_embeddings": y,
            "item_bias": (sold + rng.normal(0, 0.3, (2, items))).astype(np.float32),
            "attention_bias": 0.3 * normal(2, 3, items),
            "channel_weights": normal(2, size, size) * np.float32(0.2 / size),
            "neighbour_items": rng.integers(0, items, (items, m), np.int32),
            "neighbour_weights": said[rng.integers(0, _POOL, items)],
        }

    @cached_property
    def _scanned(self) -> dict[str, npt.NDArray[Any]]:
        arrays = quantise(self._arrays["item_embeddings"], self._arrays["item_bias"], 2.5)
        return {f"scan/{name}": array for name, array in arrays}

    def graph(self, name: str) -> bytes:
        """The scorer of any embedding size, with its weights as an input; there is no other."""
        return files("c2rec.runtime").joinpath(name).read_bytes()

    def array(self, name: str) -> npt.NDArray[Any]:
        """An array, as of ``Cache.array``."""
        return self._scanned[name] if name.startswith("scan/") else self._arrays[name]

    def request(self, *, bought: int = 20) -> Request:
        """Draw a customer who bought so many items, most of them in three families."""
        rng = self._rng
        family = rng.choice(self._family[rng.integers(0, self.items, 3)], bought)
        ours = rng.integers(0, self.items, (bought, 64))  # a family may be far apart
        alike = self._family[ours] == family[:, None]
        history = np.where(alike.any(1), ours[np.arange(bought), alike.argmax(1)], ours[:, 0])
        offline = rng.random(bought) < 0.5
        parts = [np.ones(bought, np.bool_), offline, ~offline]
        has = np.array([[part.any() for part in parts]])
        if self.correlated:
            sums = [
                self._sources[history[part]].sum(0) / max(1, part.sum()) ** 0.5 for part in parts
            ]
            components = np.stack(sums).astype(np.float32)
        else:
            components = rng.standard_normal((3, self.size), np.float32) * np.float32(
                2.5 / self.size**0.5
            )
        return Request(components[None] * has[..., None], has, int(rng.integers(2)), history)
