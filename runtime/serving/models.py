"""The models of a release, the main one and those of an experiment's arms, and who gets which.

Each is loaded when it is first needed, and kept. Where an arm's own model is damaged, the main one
answers for it, and the operator is told.
"""

from collections.abc import Callable, Mapping

from c2rec.runtime.errors import HomeError, ReleaseError, RequestError
from c2rec.runtime.home.identity import Identity, pseudonym
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.release.experiment import MAIN, Arm
from c2rec.runtime.release.item_side import ArmSide
from c2rec.runtime.serving.asking import Asking
from c2rec.runtime.serving.pick import Picked
from c2rec.runtime.serving.tiers import Known, Tiers
from c2rec.runtime.serving.told import Told


class Model:
    """One model of a release; use it in the thread that opened the cache.

    Args:
        name: ``main``, or the arm's.
        side: what the release has of it.

    Attributes:
        tiers: what it can rank.
        told: tells of what it ranked.

    Raises:
        HomeError: it is damaged.
    """

    def __init__(self, name: str, side: Cache | ArmSide) -> None:
        self.name, self.side = name, side
        self.tiers = Tiers(side, side.manifest(), stored=name == MAIN)
        self.told = Told(side, self.tiers.popularity)


class Models:
    """The models of an open release; use it in the thread that opened the cache.

    Args:
        cache: the release.
        identity: of the kiosk; by the pseudonym that it gives a customer their arm is found, on a
            kiosk that was never enrolled by the id.
        warn: is told what an operator should know.

    Attributes:
        main: the main model.
        assigns: whether customers are assigned to arms; else the main model is everybody's.

    Raises:
        HomeError: the cache's manifest or the main model's item side is damaged.
    """

    def __init__(
        self, cache: Cache, identity: Identity | None, warn: Callable[[str], None]
    ) -> None:
        self._cache, self._warn = cache, warn
        self._key = None if identity is None else identity.customer_key
        self.main = Model(MAIN, cache)
        self._experiment = self.main.tiers.manifest.experiment
        # without its key a kiosk can't find the arm that all others do
        self.assigns = self._key is not None or cache.about("customers") != "pseudonyms"
        self._own: dict[str, tuple[ArmSide, Model]] = {}
        self._damaged: Mapping[str, HomeError] = {}

    def close(self) -> None:
        """Close what was opened; the cache stays open."""
        while self._own:
            _, (side, _) = self._own.popitem()
            side.close()

    def follow(self, damaged: Mapping[str, HomeError]) -> None:
        """Follow what became of the files.

        Args:
            damaged: of ``whole.damaged_arms``: the main model answers for these.
        """
        self._damaged = damaged
        for name, (side, _) in list(self._own.items()):
            if side.replaced:
                side.close()
                del self._own[name]

    def serving(self, customer_id: str | None, *, by_sales: bool = False) -> "Serving":
        """Make what answers one request of a customer, or of anyone.

        Args:
            customer_id: who asks.
            by_sales: whether the release is damaged, so that nothing but what sells can be shown,
                and nobody's arm be told.
        """
        arm = None
        experiment, key = self._experiment, self._key
        if experiment and customer_id is not None and self.assigns and not by_sales:
            named = customer_id if key is None else pseudonym(key, customer_id).hex()
            arm = experiment.arm_of(named)
        return Serving(self, arm, by_sales=by_sales)

    def label(self, arm: Arm | None) -> str | None:
        """What answers and events call an arm."""
        if arm is None or self._experiment is None:
            return None
        return self._experiment.label(arm)

    def of(self, arm: Arm | None) -> Model:
        """The model that ranks for an arm; it may be the main one in the place of its own."""
        if arm is None or arm.serves != "own":
            return self.main
        if arm.name in self._damaged:
            self.warn(arm, self._damaged[arm.name])
            return self.main
        try:
            if arm.name not in self._own:
                self._own[arm.name] = self._open(arm)
            return self._own[arm.name][1]
        except HomeError as error:
            self.warn(arm, error)
            return self.main

    def warn(self, arm: Arm, error: Exception) -> None:
        """Tell that the main model answers in the place of an arm's own."""
        self._warn(f"{error}; the main model answers for arm {arm.name}")

    def _open(self, arm: Arm) -> tuple[ArmSide, Model]:
        side = ArmSide(self._cache, arm)
        try:
            return side, Model(arm.name, side)
        except BaseException:
            side.close()
            raise


class Serving:
    """What answers one request.

    Args:
        models: of the release.
        arm: that the customer is in; None for nobody's request, or without an experiment.
        by_sales: whether nothing but what sells can be shown.

    Attributes:
        arm: what answers and events call the arm.
        model: what ranks; after ``answer``, what did.
    """

    def __init__(self, models: Models, arm: Arm | None, *, by_sales: bool) -> None:
        self._models, self._arm, self._by_sales = models, arm, by_sales
        self.arm = models.label(arm)
        self.model = models.of(arm)

    def answer(self, asking: Asking) -> Picked:
        """Choose as ``Asking.answer``; by the main model where an arm's own fails.

        Raises:
            HomeError, ReleaseError, RequestError: the main model can't rank.
        """
        try:
            return self._answer(asking)
        except (HomeError, ReleaseError, RequestError) as error:
            if not self.falls_back(error):
                raise
            return self._answer(asking)

    def falls_back(self, error: Exception) -> bool:
        """Go over to the main model, where it is an arm's own that failed."""
        if self._arm is None or self.model is self._models.main:
            return False
        self._models.warn(self._arm, error)
        self.model = self._models.main
        return True

    def answer_popular(self, asking: Asking) -> Picked:
        """Choose of what sells."""
        if asking.about is not None or self._in_popular_arm(asking):
            asking.listed = None
        return asking.answer(self.model.tiers, None, self.model.told)

    def known(self, asking: Asking) -> Known | None:
        """What the model has to go by; None where what sells is to be shown.

        What is asked about an item is answered alike in every arm: no taste takes part in it.
        """
        if self._by_sales or self._in_popular_arm(asking):
            asking.listed = None  # a list is made for the customer
            return None
        return asking.known(self.model.tiers)

    def _in_popular_arm(self, asking: Asking) -> bool:
        return self._arm is not None and self._arm.serves == "popular" and asking.about is None

    def _answer(self, asking: Asking) -> Picked:
        return asking.answer(self.model.tiers, self.known(asking), self.model.told)
