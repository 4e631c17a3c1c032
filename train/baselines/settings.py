"""The settings that a comparison tries for each baseline, and how each is trained with them.

Every option of a baseline is written here, tried or not, so that what is recorded is complete.
The ranges are those in which reproductions found good settings on data of this kind (1907.06902,
2203.01155 and 2409.14217), coarser where a fit takes minutes. An optimum at the end of a range on
a large dataset is a reason to widen it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from c2rec.train.baselines.bitgcf import BiTGCF
from c2rec.train.baselines.cmf import CMF
from c2rec.train.baselines.deepapf import DeepAPF
from c2rec.train.baselines.ease import Ease
from c2rec.train.baselines.factors import ALS, BPR
from c2rec.train.baselines.item_knn import ItemKNN
from c2rec.train.baselines.lightgcn import LightGCN
from c2rec.train.baselines.popularity import Popularity
from c2rec.train.baselines.repeat import Repeat
from c2rec.train.baselines.user_knn import UserKNN
from c2rec.train.batches import Rows
from c2rec.train.metrics import Ranker
from c2rec.train.split import Purchases

Settings: TypeAlias = dict[str, int | float | None]
"""Of a baseline, by the name of its option."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a baseline learns from."""

    purchases: Purchases
    """Distinct training purchases."""
    customers: int
    """In the vocabulary."""
    items: int
    """In the vocabulary."""
    seed: int
    """Of every random choice."""
    threads: int
    """CPU threads, where a baseline starts its own."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A baseline with one choice of settings."""

    name: str
    """Of the baseline; candidates of one name are choices of its settings."""
    settings: Settings
    build: Callable[[Task], Ranker]
    """Trains it."""
    seeded: bool
    """Whether the seed changes what is learnt."""


class PerChannel:
    """One model per channel, each answering for its own.

    A model is trained when it is first asked, since settings are chosen per channel and one of
    the two may never be needed. Customers of whom it knows nothing get what sells best.

    Args:
        build: trains the model of a channel.
        popularity: what sells.
    """

    def __init__(self, build: Callable[[int], Ranker], popularity: Ranker) -> None:
        self._build = build
        self._popularity = popularity
        self._models: dict[int, Ranker] = {}

    def scores(self, customers: Rows, channel: int) -> npt.NDArray[np.float32]:
        """Score every item with the channel's own model: float32 (batch, items)."""
        if channel not in self._models:
            self._models[channel] = self._build(channel)
        scores = self._models[channel].scores(customers, channel)
        unknown = np.logical_not(np.any(scores, axis=1))
        if unknown.any():
            scores = np.where(unknown[:, None], self._popularity.scores(customers, channel), scores)
        return scores


def baselines() -> dict[str, list[Candidate]]:
    """List the choices of settings of every baseline, by its name."""
    found: dict[str, list[Candidate]] = {}
    for candidates in (
        popularity(),
        recent_popularity(),
        repeat(),
        item_knn(),
        user_knn(),
        ease(),
        als(),
        bpr(),
        lightgcn(),
        cmf(),
        bitgcf(),
        deepapf(),
    ):
        for candidate in candidates:
            found.setdefault(candidate.name, []).append(candidate)
    return found


def popularity() -> Iterable[Candidate]:
    """Popularity over all of training."""
    yield Candidate(
        "popularity", {}, lambda task: Popularity(task.purchases, items=task.items), seeded=False
    )


def recent_popularity() -> Iterable[Candidate]:
    """Popularity over the last days of training."""
    for days in (1, 2, 3, 7, 14, 30, 90):

        def build(task: Task, days: int = days) -> Ranker:
            return Popularity(task.purchases, items=task.items, days=days)

        yield Candidate("recent-popularity", {"days": days}, build, seeded=False)


def repeat() -> Iterable[Candidate]:
    """What the customer bought before, in any channel."""
    yield Candidate(
        "repeat", {}, lambda task: Repeat(task.purchases, items=task.items), seeded=False
    )


def item_knn() -> Iterable[Candidate]:
    """Item neighbours."""
    for neighbours, shrinkage in product((30, 100, 300, 1000), (0.0, 10.0, 100.0, 300.0)):

        def build(
            task: Task,
            channel: int | None,
            neighbours: int = neighbours,
            shrinkage: float = shrinkage,
        ) -> Ranker:
            return ItemKNN(
                task.purchases,
                customers=task.customers,
                items=task.items,
                channel=channel,
                neighbours=neighbours,
                shrinkage=shrinkage,
            )

        settings: Settings = {"neighbours": neighbours, "shrinkage": shrinkage}
        yield from _merged_and_single("item-knn", settings, build, seeded=False)


def user_knn() -> Iterable[Candidate]:
    """Customer neighbours."""
    for neighbours in (30, 100, 300, 1000, None):

        def build(task: Task, channel: int | None, neighbours: int | None = neighbours) -> Ranker:
            return UserKNN(
                task.purchases,
                customers=task.customers,
                items=task.items,
                channel=channel,
                neighbours=neighbours,
            )

        yield from _merged_and_single("user-knn", {"neighbours": neighbours}, build, seeded=False)


def ease() -> Iterable[Candidate]:
    """Linear regression of items on items."""
    for regularisation in (30.0, 100.0, 300.0, 1000.0, 3000.0):

        def build(
            task: Task, channel: int | None, regularisation: float = regularisation
        ) -> Ranker:
            return Ease(
                task.purchases,
                customers=task.customers,
                items=task.items,
                channel=channel,
                regularisation=regularisation,
            )

        settings: Settings = {"regularisation": regularisation}
        yield from _merged_and_single("ease", settings, build, seeded=False)


def als() -> Iterable[Candidate]:
    """Weighted least squares."""
    iterations = 15
    for factors, regularisation, alpha in product(
        (16, 32, 64, 128), (3.0, 10.0, 30.0), (3.0, 10.0)
    ):

        def build(
            task: Task,
            channel: int | None,
            factors: int = factors,
            regularisation: float = regularisation,
            alpha: float = alpha,
        ) -> Ranker:
            return ALS(
                task.purchases,
                customers=task.customers,
                items=task.items,
                channel=channel,
                factors=factors,
                regularisation=regularisation,
                alpha=alpha,
                iterations=iterations,
                seed=task.seed,
                threads=task.threads,
            )

        settings: Settings = {
            "factors": factors,
            "regularisation": regularisation,
            "alpha": alpha,
            "iterations": iterations,
        }
        yield from _merged_and_single("als", settings, build, seeded=True)


def bpr() -> Iterable[Candidate]:
    """Matrix factorisation learnt pair by pair."""
    iterations = 100
    for factors, learning_rate, regularisation in product(
        (32, 128), (0.01, 0.03, 0.1), (0.003, 0.02)
    ):

        def build(
            task: Task,
            channel: int | None,
            factors: int = factors,
            learning_rate: float = learning_rate,
            regularisation: float = regularisation,
        ) -> Ranker:
            return BPR(
                task.purchases,
                customers=task.customers,
                items=task.items,
                channel=channel,
                factors=factors,
                learning_rate=learning_rate,
                regularisation=regularisation,
                iterations=iterations,
                seed=task.seed,
            )

        settings: Settings = {
            "factors": factors,
            "learning_rate": learning_rate,
            "regularisation": regularisation,
            "iterations": iterations,
        }
        yield from _merged_and_single("bpr", settings, build, seeded=True)


def lightgcn() -> Iterable[Candidate]:
    """Embeddings smoothed over the graph of purchases."""
    factors, learning_rate, regularisation, epochs = 64, 0.005, 0.001, 60
    for layers in (1, 2, 3):

        def build(task: Task, channel: int | None, layers: int = layers) -> Ranker:
            return LightGCN(
                task.purchases,
                customers=task.customers,
                items=task.items,
                channel=channel,
                factors=factors,
                layers=layers,
                learning_rate=learning_rate,
                regularisation=regularisation,
                epochs=epochs,
                seed=task.seed,
            )

        settings: Settings = {
            "factors": factors,
            "layers": layers,
            "learning_rate": learning_rate,
            "regularisation": regularisation,
            "epochs": epochs,
        }
        yield from _merged_and_single("lightgcn", settings, build, seeded=True)


def cmf() -> Iterable[Candidate]:
    """Two factorisations that share the customers."""
    factors, learning_rate, offline_weight, epochs = 64, 0.005, 1.0, 60
    for regularisation in (0.003, 0.01, 0.03):

        def build(task: Task, regularisation: float = regularisation) -> Ranker:
            return CMF(
                task.purchases,
                customers=task.customers,
                items=task.items,
                factors=factors,
                learning_rate=learning_rate,
                regularisation=regularisation,
                offline_weight=offline_weight,
                epochs=epochs,
                seed=task.seed,
            )

        settings: Settings = {
            "factors": factors,
            "learning_rate": learning_rate,
            "regularisation": regularisation,
            "offline_weight": offline_weight,
            "epochs": epochs,
        }
        yield Candidate("cmf", settings, build, seeded=True)


def bitgcf() -> Iterable[Candidate]:
    """Two graphs whose customers meet in every layer."""
    factors, layers, learning_rate, regularisation, epochs = 64, 3, 0.005, 0.001, 60
    for transfer in (0.2, 0.5, 0.8):

        def build(task: Task, transfer: float = transfer) -> Ranker:
            return BiTGCF(
                task.purchases,
                customers=task.customers,
                items=task.items,
                factors=factors,
                layers=layers,
                transfer=transfer,
                learning_rate=learning_rate,
                regularisation=regularisation,
                epochs=epochs,
                seed=task.seed,
            )

        settings: Settings = {
            "factors": factors,
            "layers": layers,
            "transfer": transfer,
            "learning_rate": learning_rate,
            "regularisation": regularisation,
            "epochs": epochs,
        }
        yield Candidate("bitgcf", settings, build, seeded=True)


def deepapf() -> Iterable[Candidate]:
    """Shared and channel factors weighed by attention."""
    factors, learning_rate, epochs = 64, 0.005, 60
    for regularisation in (0.001, 0.01, 0.03):

        def build(task: Task, regularisation: float = regularisation) -> Ranker:
            return DeepAPF(
                task.purchases,
                customers=task.customers,
                items=task.items,
                factors=factors,
                learning_rate=learning_rate,
                regularisation=regularisation,
                epochs=epochs,
                seed=task.seed,
            )

        settings: Settings = {
            "factors": factors,
            "learning_rate": learning_rate,
            "regularisation": regularisation,
            "epochs": epochs,
        }
        yield Candidate("deepapf", settings, build, seeded=True)


def _merged_and_single(
    name: str, settings: Settings, build: Callable[[Task, int | None], Ranker], *, seeded: bool
) -> Iterable[Candidate]:
    """Offer one model on both channels as one, and one model per channel."""
    yield Candidate(f"{name} merged", settings, lambda task: build(task, None), seeded)

    def single(task: Task) -> Ranker:
        popularity = Popularity(task.purchases, items=task.items)
        return PerChannel(lambda channel: build(task, channel), popularity)

    yield Candidate(f"{name} single", settings, single, seeded)
