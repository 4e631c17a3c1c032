"""A simulated retailer whose customers' tastes are known.

Every customer has a shared taste and one for each channel. How much the shared one counts when
customer u looks at item v in channel c is::

    ω_{u,v,c} = sigmoid(a_u + s_{c,v})

and what is bought there is drawn by softmax over v of::

    strength · (ω t_{u,shared} · y_v + (1 − ω) t_{u,c} · y_v) + log popularity_{c,v}

So ω is the truth that attention should find. Tastes, ω, popularity and activity are drawn
independently of each other. A customer draws from candidates, the same in both channels, which
were taken by mean popularity; so one costs the same however large the catalogue is.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load, save

from c2rec.runtime.errors import DataError
from c2rec.runtime.records import CHANNELS
from c2rec.train.files import write_bytes
from c2rec.train.tables import refuse_to_replace, write_dataset

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TRUTH = "truth.safetensors"
TASTE_SIZE = 8
"""Dimensions of tastes and item vectors."""
STRENGTH = 5.0
"""How much tastes count against popularity."""
CANDIDATES = 200
"""Items that a customer looks at in a channel."""
FIRST_DAY = datetime(2025, 1, 6, tzinfo=UTC)
"""A Monday."""

_AT_ONCE = 2000
"""Customers simulated at a time."""
_WEEK = np.array(
    [
        [0.8, 0.8, 0.9, 1.0, 1.5, 2.2, 0.5],  # stores, Monday to Sunday
        [1.2, 1.1, 1.0, 1.0, 0.9, 0.9, 1.5],  # web shop
    ]
)
_HOURS = ((9, 20), (0, 24))
"""Opening hours, per channel."""
_DEPARTMENTS = {
    "Women": ("Dress", "Blouse", "Skirt", "Linen shirt", "Cardigan"),
    "Men": ("Shirt", "Chinos", "Polo shirt", "Blazer", "Jeans"),
    "Children": ("Romper", "Leggings", "Dungarees", "Pyjamas", "Raincoat"),
    "Home": ("Towel", "Cushion cover", "Duvet set", "Vase", "Candle"),
    "Sport": ("Running tights", "Training top", "Windbreaker", "Shorts", "Track jacket"),
    "Accessories": ("Belt", "Scarf", "Beanie", "Tote bag", "Sunglasses"),
}
_COLOURS = ("black", "white", "blue", "green", "red", "beige", "grey", "yellow", "pink", "brown")
_CATEGORIES = [(d, name) for d, names in _DEPARTMENTS.items() for name in names]


@dataclass(frozen=True, slots=True)
class Truth:
    """What the simulator knows: m customers and n items, in the order of their ids."""

    shared_taste: Floats
    """float64 (m, TASTE_SIZE)."""
    channel_taste: Floats
    """float64 (2, m, TASTE_SIZE)."""
    item_vectors: Floats
    """float64 (n, TASTE_SIZE)."""
    customer_shared: Floats
    """a, float64 (m,)."""
    item_shared: Floats
    """s, float64 (2, n)."""
    popularity: Floats
    """float64 (2, n), chances that sum to 1 in each channel."""


def true_shared_weight(truth: Truth, customers: Ints, items: Ints, channel: int) -> Floats:
    """Compute ω of pairs: float64 (pairs,) for int64 (pairs,) rows of the truth."""
    logit = truth.customer_shared[customers] + truth.item_shared[channel, items]
    weight: Floats = 1 / (1 + np.exp(-logit))
    return weight


def read_truth(folder: Path) -> Truth:
    """Read what ``simulate`` wrote beside the data.

    Raises:
        DataError: there is none, or it can't be read.
    """
    try:
        return Truth(**load((folder / TRUTH).read_bytes()))
    except (OSError, SafetensorError, TypeError) as error:
        raise DataError(f"{folder / TRUTH}: can't be read: {error}") from error


def customer_name(row: int) -> str:
    """Id of a customer by row of the truth; the order of ids is that of rows."""
    return f"C{row:07d}"


def item_name(row: int) -> str:
    """Id of an item by row of the truth; the order of ids is that of rows."""
    return f"P{row:07d}"


def simulate(
    out: Path,
    *,
    customers: int = 2000,
    items: int = 600,
    days: int = 60,
    seed: int = 1,
    shuffle_channels: bool = False,
    force: bool = False,
) -> None:
    """Write ``transactions.parquet``, ``items.parquet`` and ``truth.safetensors``.

    The same arguments give the same bytes.

    Args:
        out: folder, made if need be.
        customers: how many; three in five buy in both channels, the others in one.
        items: how many.
        days: length of the period, from ``FIRST_DAY``.
        seed: of everything.
        shuffle_channels: placebo: permute the channel over all rows, so that it means nothing.
        force: replace a dataset that is there.

    Raises:
        DataError: ``out`` holds a dataset already.
    """
    refuse_to_replace(out, force=force)
    rng = np.random.default_rng(seed)
    table = _draw_items(rng, items)
    truth = _draw_truth(rng, table, customers)
    visits_rate = rng.gamma(1.5, 4.0, customers) * days / 60  # the long tail of activity
    parts = [
        _draw_purchases(
            rng, truth, np.arange(start, min(start + _AT_ONCE, customers)), visits_rate, days
        )
        for start in range(0, customers, _AT_ONCE)
    ]
    purchases = pl.concat(parts)
    if shuffle_channels:
        purchases = purchases.with_columns(channel=rng.permutation(purchases["channel"].to_numpy()))
    transactions = _as_transactions(purchases, table)
    out.mkdir(parents=True, exist_ok=True)
    fields = {name: np.ascontiguousarray(getattr(truth, name)) for name in Truth.__slots__}
    write_bytes(out / TRUTH, save(fields))
    write_dataset(out, transactions, table.drop("category", "price"))


def _draw_items(rng: np.random.Generator, items: int) -> pl.DataFrame:
    category = rng.integers(0, len(_CATEGORIES), items)
    colour = rng.integers(0, len(_COLOURS), items)
    names = [f"{_CATEGORIES[c][1]}, {_COLOURS[k]}" for c, k in zip(category, colour, strict=True)]
    return pl.DataFrame(
        {
            "item_id": [item_name(row) for row in range(items)],
            "name": names,
            "department": [_CATEGORIES[c][0] for c in category],
            "product_type": [_CATEGORIES[c][1] for c in category],
            "colour": [_COLOURS[k] for k in colour],
            "category": category,
            "price": np.round(rng.lognormal(3.0, 0.6, items), 2),
        }
    )


def _draw_truth(rng: np.random.Generator, table: pl.DataFrame, customers: int) -> Truth:
    category, items = table["category"].to_numpy(), table.height
    centres = rng.normal(size=(len(_CATEGORIES), TASTE_SIZE))
    vectors = _unit(centres[category] + 0.7 * rng.normal(size=(items, TASTE_SIZE)))
    tastes = _unit(rng.normal(size=(3, customers, TASTE_SIZE)))
    # where shared taste counts is a matter of category and of item, in each channel anew
    shared = 1.5 * rng.normal(size=(2, len(_CATEGORIES)))[:, category]
    shared = shared + 1.5 * rng.normal(size=(2, items))  # (2, n)
    rank = np.array([rng.permutation(items) for _ in range(3)])  # one common order, two own
    order = np.argsort(np.argsort(rank[0] + 0.5 * rank[1:], axis=1), axis=1)  # (2, n)
    popularity = 1 / (order + 10.0) ** 0.9
    return Truth(
        shared_taste=tastes[0],
        channel_taste=tastes[1:],
        item_vectors=vectors,
        customer_shared=0.5 * rng.normal(size=customers),
        item_shared=shared,
        popularity=popularity / popularity.sum(1, keepdims=True),
    )


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit


def _draw_purchases(
    rng: np.random.Generator, truth: Truth, customers: Ints, rates: Floats, days: int
) -> pl.DataFrame:
    """Purchases of some customers: one row for each item of each basket."""
    habits = rng.choice(3, len(customers), p=[0.2, 0.2, 0.6])  # store only, web only, both
    cumulative = np.cumsum(truth.popularity.mean(0))  # (n,)
    shape = (len(customers), CANDIDATES)
    seen = np.searchsorted(cumulative / cumulative[-1], rng.random(shape), side="right")
    seen = np.minimum(seen, len(cumulative) - 1)  # (customers, candidates)
    parts = []
    for channel in range(len(CHANNELS)):
        here = (habits == channel) | (habits == 2)
        active = customers[here]
        visits = np.maximum(1, rng.poisson(rates[active]))
        owner = np.repeat(np.arange(len(active)), visits)  # (visits,)
        basket = rng.geometric(0.5, len(owner))  # items in each
        moment = _draw_moments(rng, channel, len(owner), days)
        buyer = np.repeat(owner, basket)  # (purchases,)
        item = _choose(rng, truth, active, seen[here], buyer, channel)
        parts.append(
            pl.DataFrame(
                {
                    "customer": active[buyer],
                    "item": item,
                    "channel": np.full(len(item), channel),
                    "moment": np.repeat(moment, basket),
                }
            )
        )
    return pl.concat(parts)


def _draw_moments(rng: np.random.Generator, channel: int, count: int, days: int) -> Ints:
    """Seconds since FIRST_DAY of visits: int64 (count,)."""
    weights = _WEEK[channel][np.arange(days) % 7]
    day = rng.choice(days, count, p=weights / weights.sum())
    opens, closes = _HOURS[channel]
    return day * 86_400 + rng.integers(opens * 3600, closes * 3600, count)


def _choose(
    rng: np.random.Generator,
    truth: Truth,
    customers: Ints,
    seen: Ints,
    buyer: Ints,
    channel: int,
) -> Ints:
    """Draw an item for every purchase.

    Args:
        rng: where chance comes from.
        truth: what is drawn by.
        customers: int64 (m,) rows of the truth.
        seen: int64 (m, candidates) items.
        buyer: int64 (purchases,) rows of ``customers``, ascending.
        channel: row of ``CHANNELS``.

    Returns:
        int64 (purchases,) items.
    """
    vectors = truth.item_vectors[seen]  # (m, candidates, d)
    omega = true_shared_weight(truth, customers[:, None], seen, channel)  # (m, candidates)
    shared = np.einsum("mcd,md->mc", vectors, truth.shared_taste[customers])
    own = np.einsum("mcd,md->mc", vectors, truth.channel_taste[channel, customers])
    utility = STRENGTH * (omega * shared + (1 - omega) * own)
    # candidates were taken by mean popularity: the rest of this channel's comes here
    utility += np.log(truth.popularity[channel] / truth.popularity.mean(0))[seen]
    chance = np.exp(utility - utility.max(1, keepdims=True))
    steps = np.cumsum(chance / chance.sum(1, keepdims=True), axis=1)  # (m, candidates)
    # one sorted search serves all: row r's steps lie in (r, r + 1]
    flat = (steps + np.arange(len(steps))[:, None]).ravel()
    place = np.searchsorted(flat, rng.random(len(buyer)) + buyer, side="left")
    place = np.minimum(place, (buyer + 1) * seen.shape[1] - 1)
    chosen: Ints = seen.ravel()[place]
    return chosen


def _as_transactions(purchases: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    """Add up what is twice in a basket, and name everything."""
    stores = 20
    return (
        purchases.group_by("customer", "item", "channel", "moment")
        .agg(quantity=pl.len().cast(pl.Int64))
        .sort("moment", "customer", "channel", "item")
        .select(
            customer_id=pl.format("C{}", pl.col("customer").cast(pl.String).str.zfill(7)),
            item_id=pl.format("P{}", pl.col("item").cast(pl.String).str.zfill(7)),
            channel=pl.when(pl.col("channel") == 0)
            .then(pl.lit(CHANNELS[0]))
            .otherwise(pl.lit(CHANNELS[1])),
            timestamp=pl.lit(FIRST_DAY) + pl.duration(seconds="moment"),
            quantity="quantity",
            price=pl.lit(table["price"]).gather(pl.col("item")),
            store_id=pl.when(pl.col("channel") == 0).then(
                pl.format("S{}", (pl.col("customer") % stores).cast(pl.String).str.zfill(3))
            ),
        )
    )
