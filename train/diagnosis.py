"""What tends to go wrong with cross-channel recommenders, looked for in a run.

Three findings have a verdict: one channel weak, new items out of reach, and the same list in both
channels. The other figures have none, since what is good depends on the shop. All of it is
measured on a sample of the customers with a test purchase (``shown``), over the whole catalogue.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from c2rec.runtime.records import CHANNELS, COMPONENTS
from c2rec.train.batches import PurchaseIndex
from c2rec.train.calibration import Bin, calibrate
from c2rec.train.exposure import Exposure, exposure
from c2rec.train.loop import ModelRanker
from c2rec.train.metrics import Wanted, evaluate_channel
from c2rec.train.model import C2Rec
from c2rec.train.run import PreparedData
from c2rec.train.shown import Shown, channels_bought_in, show
from c2rec.train.split import Purchases

Verdict: TypeAlias = Literal["ok", "warning", "unknown"]
Numbers: TypeAlias = Mapping[str, float | int | None]

LEAST_CUSTOMERS = 30
"""With fewer there is no verdict."""
LEAST_UPLIFT = 1.0
"""NDCG of each channel over its best popularity, at least."""
LEAST_BALANCE = 0.6
"""That of the weaker channel over that of the stronger, at least."""
LEAST_REACH = 0.1
"""How often items new in the test period are reached, against others bought in it, at least."""
LEAST_ITEMS = 10
"""With fewer new items there is no verdict."""
LEAST_PURCHASES = 3
"""In each channel, of a customer whose two channels are compared."""
LITTLE, MUCH = 0.1, 0.3
"""A customer shops differently where at most, alike where at least, this share of the items of
the channel with fewer was bought in both."""
SAME = 0.8
"""Mean overlap of the two lists of customers who shop differently, less than."""
INVERTED = 0.1
"""How far it may be above that of customers who shop alike."""

GROUPS = ("both channels", "offline only", "online only")
"""Of customers, by where they bought in training."""
PARTS = (*COMPONENTS, "both")
"""Components of a model that has all four."""
KINDS = ("never bought", "bought in the other channel", "bought in this channel")
"""Of test purchases, by what the customer had bought in training."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that may be wrong."""

    name: str
    title: str
    verdict: Verdict
    figures: Numbers
    rule: str
    """When it is a warning."""
    advice: str
    """What to do then; or why there is no verdict."""


@dataclass(frozen=True, slots=True)
class Attention:
    """Mean α over the places of the lists of some customers."""

    customers: int
    weights: dict[str, float]
    """By component; they sum to 1, but for the attention ``sigmoid``."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found. Channels are keys by name."""

    k: int
    customers: int
    """In the sample."""
    findings: list[Finding]
    exposure: dict[str, Exposure]
    kinds: dict[str, dict[str, Numbers]]
    """Per channel and kind of purchase: ``purchases``, ``customers``, ``hr``, ``ndcg``, ``recall``.
    For the last kind nothing is left out of the lists, else it would never be hit."""
    attention: dict[str, dict[str, Attention]]
    """Per channel and group, of those with a customer in it; ``everybody`` is all with a
    purchase."""
    calibration: dict[str, list[Bin]]

    def document(self) -> dict[str, object]:
        """Arrange as JSON."""
        return asdict(self)


def diagnose(
    model: C2Rec,
    data: PreparedData,
    ours: Mapping[str, Numbers],
    baselines: Mapping[str, Mapping[str, Numbers]],
    *,
    k: int,
) -> Diagnosis:
    """Look at a sample of lists.

    Args:
        model: in evaluation mode.
        data: what it was trained and is measured on.
        ours: its main figures per channel.
        baselines: those of the popularity baselines.
        k: length of the lists.
    """
    # a table has rows for its own customers alone
    known_alone = model.config.encoder == "table"
    index = data.index if known_alone else data.everyone
    later = data.split.test if known_alone else data.split.everyone.test
    shown = show(model, index, later, k=k)
    ranker = ModelRanker(model, index)
    return Diagnosis(
        k=k,
        customers=len(shown.customers),
        findings=[
            weak_channel(ours, baselines),
            new_items(shown, data.everyone.known),
            same_lists(shown),
        ],
        exposure={
            name: exposure(
                shown.lists[channel],
                shown.later.items[shown.later.channels == channel],
                _purchases(index, channel),
            )
            for channel, name in enumerate(CHANNELS)
        },
        kinds={name: _kinds(ranker, shown, channel, k) for channel, name in enumerate(CHANNELS)},
        attention={
            name: attention_by_group(shown, channel) for channel, name in enumerate(CHANNELS)
        },
        calibration={
            name: calibrate(ranker, Wanted.of(index, shown.later, channel, new_only=True))
            for channel, name in enumerate(CHANNELS)
        },
    )


def weak_channel(
    ours: Mapping[str, Numbers], baselines: Mapping[str, Mapping[str, Numbers]]
) -> Finding:
    """One channel strong, the other weak: NDCG over that of the best popularity, per channel."""
    figures: dict[str, float | int | None] = {}
    uplifts: list[float] = []
    least = min(int(ours[name]["customers"] or 0) for name in CHANNELS)
    for name in CHANNELS:
        mine = ours[name]["ndcg"]
        theirs = max((each[name]["ndcg"] or 0 for each in baselines.values()), default=0)
        uplift = mine / theirs if mine is not None and theirs else None
        figures[name] = uplift
        uplifts += [] if uplift is None else [uplift]
    told = len(uplifts) == len(CHANNELS) and least >= LEAST_CUSTOMERS
    balance = min(uplifts) / max(uplifts) if told and max(uplifts) > 0 else None
    figures["weaker_over_stronger"] = balance
    bad = told and (
        min(uplifts) < LEAST_UPLIFT or (balance is not None and balance < LEAST_BALANCE)
    )
    return Finding(
        "weak-channel",
        "One channel weak",
        "unknown" if not told else "warning" if bad else "ok",
        figures,
        f"NDCG is under {LEAST_UPLIFT:g} times the best popularity's in a channel, or the weaker "
        f"channel's multiple is under {LEAST_BALANCE:g} of the stronger's",
        "Too few customers with a new purchase in one of the channels to tell."
        if not told
        else "See how much training data the weak channel has. Give it more days, or a lower "
        "--min-interactions; try a smaller --attention-weight, so that it may borrow from the "
        "other channel; compare with the merged baselines of c2rec-train compare.",
    )


def new_items(shown: Shown, known: npt.NDArray[np.bool_]) -> Finding:
    """New items unreachable: how many of those first bought in the test period are shown.

    Args:
        shown: the lists.
        known: bool (items,), what anybody bought in training.
    """
    items = len(known)
    bought, reached = np.zeros(items, bool), np.zeros(items, bool)
    bought[shown.later.items] = True
    hits = purchases = places = 0
    for channel, lists in enumerate(shown.lists):
        reached[lists[lists >= 0]] = True
        places += int((~known[lists[lists >= 0]]).sum())
        mine = (shown.later.channels == channel) & ~known[shown.later.items]
        pairs = shown.later.customers[mine].astype(np.int64) * items + shown.later.items[mine]
        listed = (shown.customers[:, None] * items + lists)[lists >= 0]
        purchases += len(pairs)
        hits += int(np.isin(pairs, listed).sum())
    new = bought & ~known
    others = bought & known
    share = float(reached[new].mean()) if new.any() else None
    usual = float(reached[others].mean()) if others.any() else None
    told = new.sum() >= LEAST_ITEMS and usual is not None and usual > 0
    return Finding(
        "new-items",
        "New items out of reach",
        "unknown"
        if not told or share is None or usual is None
        else "warning"
        if share < LEAST_REACH * usual
        else "ok",
        {
            "new_items": int(new.sum()),
            "shown": share,
            "others_shown": usual,
            "places": places,
            "purchases": purchases,
            "hits": hits,
        },
        f"the share of items first bought in the test period that is in anybody's list is under "
        f"{LEAST_REACH:g} of that of the other items bought",
        f"Fewer than {LEAST_ITEMS} items were new in the test period."
        if not told
        else "Give items attributes that they share with others (columns of the items table), and "
        "list new items there before they are sold; make --valid-days long enough to hold "
        "purchases of new items, since their place is chosen by them.",
    )


def same_lists(shown: Shown) -> Finding:
    """The same list in both channels, for customers who shop differently in each."""
    overlap = purchase_overlap(shown)  # (n,)
    same = list_overlap(*shown.unbought)  # (n,)
    little, much = overlap <= LITTLE, overlap >= MUCH  # False where NaN

    def mean(group: npt.NDArray[np.bool_]) -> float | None:
        return float(same[group].mean()) if group.any() else None

    told = int(little.sum()) >= LEAST_CUSTOMERS
    of_little, of_much = mean(little), mean(much)
    bad = of_little is not None and of_little >= SAME
    if of_little is not None and of_much is not None and int(much.sum()) >= LEAST_CUSTOMERS:
        bad = bad or of_little > of_much + INVERTED
    return Finding(
        "same-lists",
        "The same list in both channels",
        "unknown" if not told else "warning" if bad else "ok",
        {
            "customers_who_shop_differently": int(little.sum()),
            "their_overlap": of_little,
            "customers_who_shop_alike": int(much.sum()),
            "overlap_of_those": of_much,
        },
        f"the two lists of customers who shop differently have {SAME:g} or more in common on "
        f"average, or over {INVERTED:g} more than those of customers who shop alike",
        f"Fewer than {LEAST_CUSTOMERS} customers of the sample bought {LEAST_PURCHASES} items or "
        "more in each channel and hardly any in both."
        if not told
        else "See whether attention uses the channel's own component at all (below). If it is all "
        "shared, raise --attention-weight a little; if popularity fills the lists, train longer.",
    )


def purchase_overlap(shown: Shown) -> npt.NDArray[np.float64]:
    """Share of the items of the channel with fewer that were bought in both.

    Returns:
        float64 (n,); NaN for customers with few purchases in a channel.
    """
    rows, owners = shown.index.of(shown.customers)
    channels, n = shown.index.purchases.channels[rows], len(shown.customers)
    counts = [np.bincount(owners[channels == each], minlength=n) for each in (0, 1)]
    twice = np.bincount(owners[(channels == 0) & shown.index.both[rows]], minlength=n)
    fewer = np.minimum(*counts)
    enough = fewer >= LEAST_PURCHASES
    return np.where(enough, twice / np.maximum(fewer, 1), np.nan)


def list_overlap(
    first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Share of the places of two lists of each customer, int64 (n, k), that hold the same items.

    Returns:
        float64 (n,); 1 where both lists are empty.
    """
    n = len(first)
    width = int(max(first.max(initial=0), second.max(initial=0))) + 1
    offsets = np.arange(n)[:, None] * width
    common = np.isin(np.where(first < 0, -1, first + offsets), (second + offsets)[second >= 0])
    length = np.maximum((first >= 0).sum(1), (second >= 0).sum(1))
    return np.where(length, common.sum(1) / np.maximum(length, 1), 1.0)


def attention_by_group(shown: Shown, channel: int) -> dict[str, Attention]:
    """Average α over the places of a channel's lists, for everybody and for each group."""
    bought = channels_bought_in(shown)  # (n, 2)
    offline, online = bought.T
    groups = {
        "everybody": offline | online,
        **dict(zip(GROUPS, (offline & online, offline & ~online, ~offline & online), strict=True)),
    }
    found = {}
    for name, group in groups.items():
        weights = shown.attention[channel][group][shown.lists[channel][group] >= 0]
        if len(weights):
            means = weights.astype(np.float64).mean(0)  # (components,)
            found[name] = Attention(
                int(group.sum()),
                {each: float(mean) for each, mean in zip(PARTS, means, strict=False)},
            )
    return found


def kinds_of(shown: Shown, channel: int) -> Sequence[Purchases]:
    """Divide a channel's test purchases by what the customer had bought, in order of ``KINDS``."""
    later = shown.later.where(shown.later.channels == channel)
    rows, _ = shown.index.of(shown.customers)
    items, before = shown.index.items, shown.index.purchases
    pairs = later.customers.astype(np.int64) * items + later.items
    seen = before.customers[rows].astype(np.int64) * items + before.items[rows]
    here = np.isin(pairs, seen[before.channels[rows] == channel])
    other = np.isin(pairs, seen) & ~here
    return [later.where(~here & ~other), later.where(other), later.where(here)]


def _kinds(ranker: ModelRanker, shown: Shown, channel: int, k: int) -> dict[str, Numbers]:
    found: dict[str, Numbers] = {}
    for name, later in zip(KINDS, kinds_of(shown, channel), strict=True):
        new_only = name != KINDS[-1]
        metrics = evaluate_channel(ranker, shown.index, later, channel, k=k, new_only=new_only)
        found[name] = {"purchases": len(later.items), **metrics.means()}
    return found


def _purchases(index: PurchaseIndex, channel: int) -> npt.NDArray[np.float64]:
    here = index.purchases.channels == channel
    counts = np.bincount(index.purchases.items[here], minlength=index.items)
    return counts.astype(np.float64)
