"""A trained release, with its customers: as a kiosk reads it."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx

from c2rec.runtime.engine.engine import Request
from c2rec.runtime.home.disk import generation_path
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.release.install import install

if TYPE_CHECKING:
    from c2rec.runtime.release.manifest import AttentionName

SEED = 1
"""Of the customers drawn."""


class Trained:
    """A trained release, with its customers: as a kiosk reads it.

    Args:
        cache: of the release.
        customers: their ids.
    """

    def __init__(self, cache: Cache, customers: Sequence[str]) -> None:
        self._cache, self._customers = cache, customers
        self._rng = np.random.default_rng(SEED)
        graph = onnx.load_model_from_string(cache.graph("scorer.onnx"))
        self._weights = next(
            onnx.numpy_helper.to_array(each)
            for each in graph.graph.initializer
            if each.name == "channel_weights"
        )  # (2, d, d)

    def graph(self, name: str) -> bytes:
        """Content of a graph."""
        return self._cache.graph(name)

    def array(self, name: str) -> npt.NDArray[Any]:
        """An array, as of ``Cache.array``, or ``channel_weights``."""
        return self._weights if name == "channel_weights" else self._cache.array(name)

    def request(self) -> Request:
        """Draw a customer who has bought something; what was bought there is left out."""
        while True:
            drawn = self._customers[int(self._rng.integers(len(self._customers)))]
            customer = self._cache.customer(drawn)
            if customer is not None and customer.has.any():
                break
        channel = int(self._rng.integers(2))
        history = customer.history_items.astype(np.int64)
        return Request(
            customer.components[None].copy(),  # (1, 3, d); torch wants what can be written to
            customer.has[None].copy(),
            channel,
            history,
            np.unique(history[customer.history_channels == channel]),
        )


@contextmanager
def trained(bundle: Path) -> Iterator[tuple[Trained, "AttentionName"]]:
    """Install a bundle in a folder of its own, and open it.

    Raises:
        ReleaseError: it is no bundle, or a damaged one.
    """
    with tempfile.TemporaryDirectory() as temporary:
        release = install(bundle, Path(temporary)).release
        lines = (bundle / "customers.jsonl").read_text(encoding="utf-8").splitlines()
        with closing(Cache(generation_path(Path(temporary), release))) as cache:
            customers = [json.loads(line) for line in lines]
            yield Trained(cache, customers), cache.manifest().attention
