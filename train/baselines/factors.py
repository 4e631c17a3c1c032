"""Matrix factorisation by the library ``implicit``, on the processor: ALS and BPR."""

import numpy as np
import numpy.typing as npt
from implicit.cpu.als import AlternatingLeastSquares
from implicit.cpu.bpr import BayesianPersonalizedRanking
from implicit.recommender_base import ModelFitError
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from c2rec.runtime.errors import RunError
from c2rec.train.baselines.interactions import interactions
from c2rec.train.batches import Rows
from c2rec.train.split import Purchases


class _Factors:
    """Scores that are products of a customer's and an item's vector.

    A customer or an item without purchases scores 0.

    Args:
        purchases: distinct training purchases.
        customers: customers in the vocabulary.
        items: items in the vocabulary.
        channel: learn from and answer for this channel alone; None merges both.
        model: of the library, not yet fitted.

    Raises:
        RunError: the vectors did not stay finite.
    """

    def __init__(
        self,
        purchases: Purchases,
        *,
        customers: int,
        items: int,
        channel: int | None,
        model: AlternatingLeastSquares | BayesianPersonalizedRanking,
    ) -> None:
        self._channel = channel
        matrix = interactions(purchases, customers=customers, items=items, channel=channel)
        try:
            with _one_blas_thread():
                model.fit(matrix, show_progress=False)
        except ModelFitError as error:
            raise RunError(
                "the factors did not stay finite; lower the learning rate or alpha"
            ) from error
        self._customers: npt.NDArray[np.float32] = model.user_factors  # (customers, d)
        self._items: npt.NDArray[np.float32] = model.item_factors  # (items, d)
        # BPR adds the items' biases for everybody, so that this would be no zero
        self._customers[np.diff(matrix.indptr) == 0] = 0

    def scores(self, customers: Rows, channel: int) -> npt.NDArray[np.float32]:
        """Score every item: float32 (batch, items).

        Raises:
            ValueError: ``channel`` is not the one learnt from.
        """
        if self._channel not in (None, channel):
            raise ValueError(f"learnt from channel {self._channel} alone; asked for {channel}")
        return self._customers[customers] @ self._items.T


class ALS(_Factors):
    """Weighted least squares over all pairs (Hu, Koren and Volinsky, ICDM 2008).

    Args:
        purchases: distinct training purchases.
        customers: customers in the vocabulary.
        items: items in the vocabulary.
        channel: learn from and answer for this channel alone; None merges both.
        factors: length of a vector.
        regularisation: λ of the squared length of every vector.
        alpha: weight of a bought pair, above 0; every other pair weighs 1.
        iterations: rounds of solving for all customers, then for all items.
        seed: of the vectors at the start; the same seed gives the same scores.
        threads: processor cores to use, which changes no score; 0 uses all.

    Raises:
        RunError: the vectors did not stay finite.
    """

    def __init__(
        self,
        purchases: Purchases,
        *,
        customers: int,
        items: int,
        channel: int | None,
        factors: int,
        regularisation: float,
        alpha: float,
        iterations: int,
        seed: int,
        threads: int,
    ) -> None:
        with _one_blas_thread():  # the check for it comes with the first model made
            model = AlternatingLeastSquares(
                factors=factors,
                regularization=regularisation,
                alpha=alpha,
                iterations=iterations,
                num_threads=threads,
                random_state=seed,
            )
        super().__init__(purchases, customers=customers, items=items, channel=channel, model=model)


class BPR(_Factors):
    """Bought items before others, pair by pair (Rendle et al., UAI 2009, 1205.2618).

    It runs on one processor core: on more, they overwrite each other's steps and a seed no
    longer gives the same scores (github.com/benfred/implicit/issues/710).

    Args:
        purchases: distinct training purchases.
        customers: customers in the vocabulary.
        items: items in the vocabulary.
        channel: learn from and answer for this channel alone; None merges both.
        factors: length of a vector, besides the item's bias.
        learning_rate: size of a step.
        regularisation: λ of the squared length of every vector and bias.
        iterations: rounds of as many random pairs as there are purchases.
        seed: of the vectors at the start and the pairs; the same seed gives the same scores.

    Raises:
        RunError: the vectors did not stay finite.
    """

    def __init__(
        self,
        purchases: Purchases,
        *,
        customers: int,
        items: int,
        channel: int | None,
        factors: int,
        learning_rate: float,
        regularisation: float,
        iterations: int,
        seed: int,
    ) -> None:
        model = BayesianPersonalizedRanking(
            factors=factors,
            learning_rate=learning_rate,
            regularization=regularisation,
            iterations=iterations,
            num_threads=1,
            random_state=seed,
        )
        super().__init__(purchases, customers=customers, items=items, channel=channel, model=model)


def _one_blas_thread() -> threadpool_limits:
    """Keep the BLAS to one thread for a while.

    ``implicit`` starts threads of its own, each of which would start those of the BLAS. It warns
    (RuntimeWarning) where it finds that the BLAS may.
    """
    return threadpool_limits(limits=1, user_api="blas")
