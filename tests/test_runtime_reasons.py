"""A reason is true of the customer, names what really speaks for an item, and can be told."""

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from c2rec.runtime.reasons import BASKET, CATALOGUE, POPULAR, Reason
from c2rec.runtime.reasons import ONLINE as ON_LIST
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.records import CHANNELS, LANGUAGES, Channel
from c2rec.runtime.release.install import install
from c2rec.runtime.serving.because import FLAGS, Basis, Because
from tests.release import Array, make_release

STORE, ONLINE = Reason("bought", ("offline",)), Reason("bought", ("online",))

Changes = dict[str, Callable[[Array], Array]]


class Items:
    """Items of which none is like another or speaks for another, but for changes."""

    def __init__(self, count: int = 13, /, **changes: Callable[[Array], Array]) -> None:
        arrays: dict[str, Array] = {
            "item_embeddings": np.zeros((count, 8), np.float32),
            "source_embeddings": np.zeros((count, 8), np.float32),
            "popularity": np.zeros((2, count), np.float32),
            "neighbour_items": np.zeros((count, 3), np.int32),
            "neighbour_weights": np.zeros((count, 2, 3), np.float16),
        }
        self._arrays = {
            name: changes[name](array) if name in changes else array
            for name, array in arrays.items()
        }

    def array(self, name: str) -> Array:
        return self._arrays[name]

    def item_names(self, rows: Sequence[int]) -> list[tuple[str, str]]:
        return [(f"i{row}", f"Item {row}") for row in rows]


def reasons_of(items: Items, basis: Basis, *, alphas: tuple[float, ...]) -> list[Reason]:
    """The reasons for item 7, in the store and online."""
    attention = np.array(alphas, np.float32)[:, None]
    because = Because(items)
    return [because.reasons(np.array([7]), attention, basis, channel)[0] for channel in CHANNELS]


def basis_of(
    bought: list[tuple[int, int]],
    basket: list[int],
    *,
    like: tuple[float, ...],
    encoded: bool = True,
) -> Basis:
    """A customer whose three components point to axis 0, so strongly."""
    components = np.zeros((3, 8), np.float32)
    components[:, 0] = like
    items = [item for item, _ in bought] + basket
    channels = [channel for _, channel in bought] + [0] * len(basket)
    new = [False] * len(bought) + [True] * len(basket)
    return Basis(components, np.array(items), np.array(channels), np.array(new), encoded)


def on_axis_0(**values: float) -> Callable[[Array], Array]:
    """Vectors of the items on axis 0."""

    def change(vectors: Array) -> Array:
        vectors[:] = 0
        for name, value in values.items():
            vectors[int(name[1:]), 0] = value
        return vectors

    return change


def speaks(item: int, *, offline: float = 0, online: float = 0) -> Changes:
    """A purchase of the item speaks for item 7."""

    def names(rows: Array) -> Array:
        rows[item, 0] = 7
        return rows

    def weights(values: Array) -> Array:
        values[:] = 0
        values[item, :, 0] = offline, online
        return values

    return {"neighbour_items": names, "neighbour_weights": weights}


def spread() -> Items:
    """What was bought is alike, and like item 7."""
    alike = {f"i{item}": 1.0 for item, _ in MANY}
    return Items(item_embeddings=on_axis_0(i7=1), source_embeddings=on_axis_0(**alike))


MANY = [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (8, 1), (9, 1), (10, 1), (11, 1), (12, 1)]


@pytest.mark.parametrize(
    ("like", "alphas", "expected"),
    [
        ((1, 1, 1), (0.5, 0.3, 0.2), Reason("bought", ("offline", "online"))),
        ((1, 1, 1), (0.2, 0.5, 0.3), STORE),
        ((1, 1, 1), (0.2, 0.3, 0.5), ONLINE),
        # the weight alone is no reason: what it weighs must speak for the item
        ((-1, 1, 1), (0.8, 0.0, 0.2), ONLINE),
        ((1, 3, 1), (0.4, 0.3, 0.3), STORE),
    ],
)
def test_the_component_that_adds_most_is_the_reason(
    like: tuple[float, ...], alphas: tuple[float, ...], expected: Reason
) -> None:
    found = reasons_of(spread(), basis_of(MANY, [], like=like), alphas=alphas)
    assert found == [expected, expected]


def test_only_channels_whose_purchases_speak_are_spoken_of() -> None:
    """All purchases are one component, but those online are unlike item 7."""
    release = Items(
        item_embeddings=on_axis_0(i7=1),
        source_embeddings=on_axis_0(i0=1, i1=1, i2=1, i3=1, i4=1, i8=-1, i9=-1, i10=-1),
    )
    found = reasons_of(release, basis_of(MANY, [], like=(1, 0, 0)), alphas=(1, 0, 0))
    assert found == [STORE, STORE]


@pytest.mark.parametrize(("of_item_3", "of_item_8"), [(5, 1), (3, 2)])
def test_one_or_two_purchases_that_make_up_half_are_named(of_item_3: int, of_item_8: int) -> None:
    """And told where they were bought, not where the others were."""
    others = {"i0": 1.0, "i1": 1.0, "i2": 1.0}
    release = Items(
        item_embeddings=on_axis_0(i7=1),
        source_embeddings=on_axis_0(i3=of_item_3, i8=of_item_8, **others),
    )
    found = reasons_of(release, basis_of(MANY, [], like=(1, 0, 0)), alphas=(1, 0, 0))
    if of_item_3 == 5:
        assert found == [Reason("bought", ("offline",), ("Item 3",))] * 2
    else:
        assert found == [Reason("bought", ("offline", "online"), ("Item 3", "Item 8"))] * 2


def test_purchases_speak_as_their_component_does_even_where_the_gain_is_negative() -> None:
    """The component is made of -1 times the sources."""
    release = Items(item_embeddings=on_axis_0(i7=1), source_embeddings=on_axis_0(i0=-2, i8=1))
    found = reasons_of(release, basis_of(MANY, [], like=(1, 0, 0)), alphas=(1, 0, 0))
    assert found == [Reason("bought", ("offline",), ("Item 0",))] * 2


@pytest.mark.parametrize(("sources", "spoken"), [((1.0, 3.0), "basket"), ((3.0, 1.0), "bought")])
def test_the_basket_is_the_reason_where_it_adds_more_than_the_purchases(
    sources: tuple[float, float], spoken: str
) -> None:
    release = Items(
        item_embeddings=on_axis_0(i7=1),
        source_embeddings=on_axis_0(i1=sources[0], i2=sources[1]),
    )
    basis = basis_of([(1, 0)], [2], like=(1, 1, 0))
    for reason in reasons_of(release, basis, alphas=(0.5, 0.5, 0)):
        assert reason.kind == spoken
        assert reason.names == ("Item 2" if spoken == "basket" else "Item 1",)


def test_many_items_of_a_basket_are_not_named() -> None:
    found = reasons_of(spread(), basis_of([], [0, 1, 2, 3, 4], like=(1, 1, 0)), alphas=(1, 0, 0))
    assert found == [BASKET, BASKET]


@pytest.mark.parametrize("in_basket", [True, False])
def test_a_neighbour_is_named_where_and_only_where_it_speaks(in_basket: bool) -> None:
    """A purchase of item 2 speaks for item 7 in the store alone."""
    release = Items(**speaks(2, offline=1))
    bought, basket = ([(5, 1)], [2]) if in_basket else ([(5, 1), (2, 1)], [])
    found = reasons_of(release, basis_of(bought, basket, like=(0, 0, 0)), alphas=(1, 0, 0))
    kind, where = ("basket", ()) if in_basket else ("bought", ("online",))
    assert found[0] == Reason(kind, where, ("Item 2",))  # type: ignore[arg-type]
    assert not found[1].names


@pytest.mark.parametrize("asked", [[7], [7 + FLAGS], [7, 7 + FLAGS], [7 + FLAGS, 8, 7]])
def test_what_is_said_of_an_item_is_not_said_of_one_with_its_last_digits(asked: list[int]) -> None:
    """Item 3 speaks for item 7, and item 5 for the one that shares its flag."""

    def names(rows: Array) -> Array:
        rows[3], rows[5] = 7, 7 + FLAGS
        return rows

    def weights(values: Array) -> Array:
        values[[3, 5], :, 1] = 1
        return values

    items = Items(2 * FLAGS, neighbour_items=names, neighbour_weights=weights)
    basis = basis_of([(3, 0), (5, 0)], [], like=(0, 0, 0))
    attention = np.zeros((3, len(asked)), np.float32)
    found = Because(items).reasons(np.array(asked), attention, basis, "offline")
    expected = {7: ("Item 3",), 8: (), 7 + FLAGS: ("Item 5",)}
    assert [reason.names for reason in found] == [expected[item] for item in asked]
    alone = basis_of([(5, 0)], [], like=(0, 0, 0))
    (reason,) = Because(items).reasons(np.array([7]), attention[:, :1], alone, "offline")
    assert reason == CATALOGUE


def test_a_neighbour_that_speaks_against_an_item_is_no_reason() -> None:
    release = Items(**speaks(2, offline=-1, online=-1))
    found = reasons_of(release, basis_of([(2, 0)], [], like=(0, 0, 0)), alphas=(1, 0, 0))
    assert {reason.kind for reason in found} <= {"popular", "catalogue"}


@pytest.mark.parametrize("sold", [0, 3])
def test_where_nothing_speaks_for_an_item_only_its_sales_do(sold: int) -> None:
    def sell(popularity: Array) -> Array:
        popularity[:, 7] = sold
        return popularity

    release = Items(popularity=sell)
    found = reasons_of(release, basis_of(MANY, [], like=(1, 1, 1)), alphas=(1, 0, 0))
    assert found == ([POPULAR["offline"], POPULAR["online"]] if sold else [CATALOGUE, CATALOGUE])


def test_a_table_s_components_are_told_by_the_channels_of_purchases() -> None:
    release = Items(item_embeddings=on_axis_0(i7=1))
    basis = basis_of([(1, 1)], [2], like=(1, 0, 0), encoded=False)
    assert reasons_of(release, basis, alphas=(1, 0, 0)) == [ONLINE, ONLINE]


def test_a_customer_who_only_buys_online_is_never_told_of_the_store(tmp_path: Path) -> None:
    release = make_release(tmp_path / "bundle")
    install(release.folder, tmp_path / "home")
    recommender = Recommender.open(tmp_path / "home")
    bought = {release.names[item] for item, _ in release.history(2)}
    answer = recommender.recommend("c000002", k=40)
    recommender.close()
    spoken = [item.reason for item in answer.items if item.reason.kind == "bought"]
    assert {reason.where for reason in spoken} == {("online",)}
    assert {name for reason in spoken for name in reason.names} <= bought
    assert any(reason.names for reason in spoken)


# --- words

EVERY = [
    BASKET,
    CATALOGUE,
    ON_LIST,
    *POPULAR.values(),
    *(Reason("bought", where) for where in ((), STORE.where, ONLINE.where, CHANNELS)),
]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_reason_has_words_of_its_own(language: str) -> None:
    plain = [reason.words(language) for reason in EVERY]  # type: ignore[arg-type]
    named = [
        Reason(each.kind, each.where, ("Hat", "Coat")).words(language)  # type: ignore[arg-type]
        for each in EVERY
        if each.kind in ("basket", "bought")
    ]
    assert len({*plain, *named}) == len(EVERY) + 5
    for words in named:
        assert "Hat" in words
        assert "Coat" in words


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", "goes with “Hat” and “{0}” in the basket"),
        ("de", "passt zu „Hat“ und „{0}“ im Korb"),
        ("ko", "장바구니에 담긴 ‘Hat’, ‘{0}’ 상품과 잘 어울려요"),
    ],
)
def test_a_name_is_told_as_it_stands(language: str, words: str) -> None:
    """Even one with braces."""
    reason = Reason("basket", (), ("Hat", "{0}"))
    assert reason.words(language) == words  # type: ignore[arg-type]


def test_korean_needs_no_particle_that_hangs_on_a_name() -> None:
    """The noun after the names is ours: 상품과 is right whatever they end with."""
    wheres: list[tuple[Channel, ...]] = [(), ("offline",), ("online",)]
    for name, where in product(("모자", "신발", "Hat", "No. 3"), wheres):
        words = Reason("bought", where, (name,)).words("ko")
        assert f"‘{name}’ 상품과" in words


def test_a_discreet_reason_names_nothing_bought_before() -> None:
    assert Reason("bought", ("online",), ("Hat",)).discreet() == ONLINE
    assert Reason("basket", (), ("Hat",)).discreet() == Reason("basket", (), ("Hat",))


def test_a_reason_prints_in_english() -> None:
    assert str(ONLINE) == "like what you buy online"
