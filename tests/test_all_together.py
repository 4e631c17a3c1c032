"""Arms, rules, shelf, online lists and questions about an item at once, against brute force.

What brute force does is told by the documents alone: every item is valued by the formula of the
model that the customer's arm has, merged with the customer's whole list, and chosen one by one.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest

from c2rec.export.online_lists import OnlineLists
from c2rec.runtime.answer import Answer
from c2rec.runtime.reasons import ONLINE
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.records import CHANNELS, Channel
from c2rec.runtime.release.experiment import assign
from c2rec.runtime.rules import assortment
from c2rec.runtime.rules.options import Options
from c2rec.runtime.sync.sync import sync
from tests.enrolled import AS_OF, Kiosk, enrol, publish_lists
from tests.experiments import NAME, SHARES, add_experiment
from tests.release import Release, reseal
from tests.repositories import make_head
from tests.rule_cases import ITEMS, TODAY, Case, random_case, to_toml, write_shelf

CUSTOMERS = 60
SEEDS = 25
AT = datetime(1970, 1, 1, 9, tzinfo=UTC) + timedelta(days=TODAY)
NOW = AS_OF + timedelta(hours=2)
DAY = int(NOW.timestamp() // 86_400)
SLOPES = {"main": {"offline": 1.5, "online": 0.7}, "challenger": {"offline": 0.8, "online": 2.0}}
INTERCEPT = -3.0
HALF_LIFE_HOURS, CUT = 24, 1e-9


def calibration(model: str) -> dict[str, Any]:
    return {
        channel: {"slope": slope, "intercept": INTERCEPT}
        for channel, slope in SLOPES[model].items()
    }


class Place(NamedTuple):
    """A kiosk, what its release is made of, and whose list says what."""

    kiosk: Kiosk
    release: Release
    models: dict[str, Release]
    lists: dict[int, tuple[list[str], list[float], list[tuple[str, int]]]]
    """By customer: items, probabilities (none: empty), and what was bought online, and when."""
    space: str | None
    """Of the lists."""
    channel: Channel


def describe(folder: Path) -> None:
    """Give the items what rules look at."""
    rng = np.random.default_rng(7)
    lines = []
    for line in (folder / "items.jsonl").read_text().splitlines():
        row = json.loads(line)
        row["category"] = f"c{rng.integers(5)}"
        row["brand"] = f"b{rng.integers(4)}" if rng.random() < 0.8 else ""
        row["price"] = rng.choice(["", "cheap", "nan", "-1", "5", "10.0", "20", "40"])
        lines.append(json.dumps(row))
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n")


def draw_lists(rng: Random, release: Release, *, chances: bool) -> dict[int, Any]:
    """Lists of two customers in three; some of items that nobody knows."""
    found = {}
    for customer in range(CUSTOMERS):
        if rng.random() < 0.67:
            items = rng.sample([*release.item_ids, "unheard of"], rng.choice([1, 5, 20]))
            odds = sorted((rng.uniform(0.01, 0.9) for _ in items), reverse=True) if chances else []
            days = [DAY - rng.choice([0, 3, 12, 20, 35, 500]) for _ in range(rng.choice([0, 4]))]
            bought = [(rng.choice(release.item_ids), 86_400 * day + 7) for day in days]
            found[customer] = items, odds, bought
    return found


def as_lists(lists: dict[int, Any]) -> OnlineLists:
    """Lay lists out as head office does."""
    named = {item for items, _, bought in lists.values() for item in (*items, *dict(bought))}
    item_ids = sorted(named)
    place = {item: n for n, item in enumerate(item_ids)}
    every = list(lists.values())
    return OnlineLists(
        [f"c{n:06}" for n in lists],
        [["all"]] * len(lists),
        item_ids,
        np.cumsum([0, *(len(items) for items, _, _ in every)]),
        np.array([place[i] for items, _, _ in every for i in items], np.int32),
        np.array([p for items, odds, _ in every for p in (odds or [0.0] * len(items))], np.float32),
        np.cumsum([0, *(len(bought) for _, _, bought in every)]),
        np.array([place[i] for _, _, bought in every for i, _ in bought], np.int32),
        np.array([at for _, _, bought in every for _, at in bought], np.int64),
    )


@pytest.fixture(scope="module", params=["main", "challenger", "another", "by rank"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Online lists of the main model, of the challenger's, of a platform with and without odds."""
    folder = tmp_path_factory.mktemp("place")
    head = make_head(folder / "head", publish=False)
    models: dict[str, Release] = {}

    def change(bundle: Path) -> None:
        describe(bundle)
        models.update(add_experiment(bundle, calibration=calibration("challenger")))
        reseal(bundle, lambda document: document.update(calibration=calibration("main")))

    head.publish(customers=CUSTOMERS, change=change)
    release = models["main"] = head.releases[0]
    kiosk = enrol(head, folder / "home")
    kind = request.param
    lists = draw_lists(Random(kind), release, chances=kind != "by rank")  # noqa: S311
    space = models[kind].manifest.space if kind in models else None
    channel: Channel = "online" if kind == "challenger" else "offline"
    publish_lists(head, as_lists(lists), space=space, channel=channel)
    assert sync(kiosk.home).warnings == []
    return Place(kiosk, release, models, lists, space, channel)


@contextmanager
def opened(place: Place) -> Iterator[Recommender]:
    recommender = Recommender.open(place.kiosk.home)
    try:
        yield recommender
    finally:
        recommender.close()


def put(home: Path, case: Case) -> None:
    (home / "new").write_text(to_toml(case.of_store))
    (home / "new").replace(home / "rules.toml")
    write_shelf(home / "shelf.csv", case.shelf)


class Truth:
    """What an answer must be."""

    def __init__(self, place: Place, case: Case, seed: int) -> None:
        rng = Random(seed + 1)  # noqa: S311
        self.place, self.case = place, case
        case.customer = rng.choice([None, *range(CUSTOMERS)])
        self.about: int | None = rng.choice([None, None, rng.randrange(ITEMS)])
        self.arm = self._arm()
        own = self.arm == "challenger"
        self.by_model = self.arm != "holdout" or self.about is not None
        self.name = "challenger" if own else "main"
        self.model = place.models[self.name]
        self.channel = CHANNELS.index(case.channel)
        self.slope = SLOPES[self.name][case.channel]

    def _arm(self) -> str | None:
        if self.case.customer is None:
            return None
        who = self.place.kiosk.pseudonym(f"c{self.case.customer:06}").hex()
        return assign(NAME, SHARES, who)

    @property
    def listed(self) -> tuple[list[str], list[float], list[tuple[str, int]]]:
        none: tuple[list[str], list[float], list[tuple[str, int]]] = ([], [], [])
        if self.case.customer is None:
            return none
        return self.place.lists.get(self.case.customer, none)

    def window(self, row: int) -> int:
        case = self.case
        days = [
            rule["days"]
            for rules in case.tables
            for rule in rules.get("bought", [])
            if case.has(rule, row)
        ]
        return max(days) if days else 10**9

    def bought(self, row: int) -> bool:
        """Whether it was bought here, or online since the release, and stays away."""
        days = [d for i, where, d in self.case.purchases() if (i, where) == (row, self.channel)]
        item_id = self.place.release.item_ids[row]
        days += [at // 86_400 for item, at in self.listed[2] if item == item_id]
        return any(max(DAY - day, 0) < self.window(row) for day in days)

    def may(self, row: int) -> bool:
        case, item_id = self.case, self.place.release.item_ids[row]
        gone = item_id in case.basket or item_id in case.options.dismissed or row == self.about
        return not (gone or case.hidden(row) or self.bought(row))

    def history(self) -> list[tuple[int, int]]:
        """What the model has to go by; empty for what sells."""
        if not self.by_model:
            return []
        if self.about is not None:
            return [(self.about, self.channel)]
        release, case = self.place.release, self.case
        history = [] if case.customer is None else release.history(case.customer)
        rows = sorted({release.item_ids.index(i) for i in case.basket if i in release.item_ids})
        return history + [(r, self.channel) for r in rows if (r, self.channel) not in history]

    def offline(self) -> np.ndarray:
        """What the release alone ranks by, float64 (items,)."""
        factors = np.array([self.case.factor(row) for row in range(ITEMS)])
        history = self.history()
        if not history:
            sold = self.place.release.items["popularity"][self.channel]
            if self.arm == "challenger":
                sold = self.model.items["popularity"][self.channel]
            return np.asarray(sold * factors.astype(np.float32), np.float64)
        scores, _ = self.model.score(*self.model.encode(history), self.channel, history)
        return np.asarray(scores + np.log(factors) / self.slope, np.float64)

    @property
    def path(self) -> str:
        listed = [i for i in self.listed[0] if i in self.place.release.item_ids]
        listed = [i for i in listed if self.may(self.place.release.item_ids.index(i))]
        held = self.arm == "holdout"
        if self.about is not None or not listed or held:
            return "offline"
        same = (self.place.space, self.place.channel) == (
            self.model.manifest.space,
            self.case.channel,
        )
        return "blend" if same and self.history() and self.listed[1] else "rank-fusion"

    def ranking(self, depth: int) -> list[tuple[int, float]]:
        """Rows and values of all that may be shown, best first."""
        offline = self.offline()
        rows = [row for row in range(ITEMS) if self.may(row)]
        order = sorted(rows, key=lambda row: (-offline[row], row))
        if self.path == "offline":
            return [(row, float(offline[row])) for row in order]
        ids = self.place.release.item_ids
        listed = {
            ids.index(item): at
            for at, item in enumerate(self.listed[0], 1)
            if item in ids and self.may(ids.index(item))
        }
        weight = 2.0 ** (-2 / HALF_LIFE_HOURS)
        values = {}
        if self.path == "blend":
            weight *= 0.5
            p = np.clip(np.array(self.listed[1], np.float32).astype(np.float64), CUT, 1 - CUT)
            odds = np.log(p) - np.log1p(-p)
            for row in rows:
                theirs = odds.min()
                if row in listed:
                    theirs = odds[listed[row] - 1] + np.log(self.case.factor(row))
                mine = self.slope * offline[row] + INTERCEPT
                values[row] = (1 - weight) * mine + weight * theirs
        else:
            weight *= 0.3 if self.history() else 1.0
            first = order[: depth + len(listed)]
            for row in {*first, *listed}:
                values[row] = 1 / (60 + first.index(row) + 1) if row in first else 0.0
                if row in listed:
                    values[row] += weight * self.case.factor(row) / (60 + listed[row])
        return sorted(values.items(), key=lambda each: (-each[1], each[0]))

    def because_of_the_list(self) -> set[int]:
        """What the list has, and the release's own ranking hasn't among as many as asked for."""
        if self.path == "offline":
            return set()
        offline, ids = self.offline(), self.place.release.item_ids
        order = sorted(filter(self.may, range(ITEMS)), key=lambda row: (-offline[row], row))
        listed = {ids.index(item) for item in self.listed[0] if item in ids}
        return listed - set(order[: self.case.k])

    def expected(self) -> list[tuple[int, float]]:
        """Rows and values of the answer, as deep as the product looks."""
        case = self.case
        most = case.single("session", "repeats", 10**9)
        stale = {r for r in range(ITEMS) if self.times(r) >= most}
        weight = case.options.diversity
        if weight is None:
            weight = case.single("diversity", "weight", 0)
        pool = max(50, 5 * case.k) if weight else 0
        depth = max((case.k + len(stale)) * (4 if case.caps() else 1), pool + len(stale))
        while True:
            ranking = self.ranking(depth)
            chosen = self.choose(ranking, stale, weight, pool)
            if depth >= len(ranking) or len(chosen) == case.k:
                return chosen
            depth *= 4

    def times(self, row: int) -> int:
        return self.case.options.times_shown.get(self.place.release.item_ids[row], 0)

    def choose(
        self, ranking: list[tuple[int, float]], stale: set[int], weight: float, size: int
    ) -> list[tuple[int, float]]:
        case, values = self.case, dict(ranking)
        fresh = [row for row in values if row not in stale]
        chosen: list[int] = []
        if weight:
            pool = fresh[:size]
            every = np.array([values.get(row, 0.0) for row in range(ITEMS)])
            while len(chosen) < case.k:
                open_ = [r for r in pool if r not in chosen and case.room(r, chosen)]
                if not open_:
                    break
                chosen.append(self.marginal().most_marginal(open_, chosen, pool, every, weight))
        for row in [*fresh, *(row for row in values if row in stale)]:
            if len(chosen) < case.k and row not in chosen and case.room(row, chosen):
                chosen.append(row)
        return [(row, values[row]) for row in chosen]

    def marginal(self) -> Case:
        return replace(self.case, release=self.model)


def ask(recommender: Recommender, truth: Truth, options: Options) -> Answer:
    case = truth.case
    return recommender.recommend(
        None if case.customer is None else f"c{case.customer:06}",
        basket=case.basket,
        k=case.k,
        channel=case.channel,
        at=NOW,
        options=options,
    )


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_answer_is_that_of_brute_force(place: Place, seed: int) -> None:
    case = random_case(seed, place.release)
    case.of_release = {}
    truth = Truth(place, case, seed)
    put(place.kiosk.home, case)
    options = case.options
    if truth.about is not None:
        options = replace(options, goes_with=place.release.item_ids[truth.about])
    with pytest.MonkeyPatch.context() as patch, opened(place) as recommender:
        if seed % 3 == 0:
            patch.setattr(assortment, "MOST_GROUPS", 1)
        answer = ask(recommender, truth, options)
        again = ask(recommender, truth, options)
        warnings = recommender.warnings
    assert warnings == []
    assert answer.items == again.items
    found = [place.release.item_ids.index(item.item_id) for item in answer.items]
    expected = truth.expected()
    assert answer.path == truth.path
    assert found == [row for row, _ in expected]
    assert [item.score for item in answer.items] == pytest.approx(
        [value for _, value in expected], abs=1e-4, rel=1e-5
    )
    told_online = {r for r, i in zip(found, answer.items, strict=True) if i.reason == ONLINE}
    assert told_online == set(found) & truth.because_of_the_list()
    assert answer.arm == (None if truth.arm is None else f"{NAME}/{truth.arm}")
    ranked = bool(truth.history()) and (bool(found) or any(map(truth.may, range(ITEMS))))
    assert answer.model == (truth.name if ranked else None)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_stands_in_keeps_all_promises(place: Place, seed: int) -> None:
    case = random_case(seed, place.release)
    case.of_release = {}
    truth = Truth(place, case, seed)
    truth.about = seed % ITEMS
    put(place.kiosk.home, case)
    options = replace(case.options, instead_of=place.release.item_ids[truth.about])
    with opened(place) as recommender:
        answer = ask(recommender, truth, options)
        assert recommender.warnings == []
    found = [place.release.item_ids.index(item.item_id) for item in answer.items]
    assert all(map(truth.may, found))
    assert answer.path == "offline"
    left = [r for r in range(ITEMS) if truth.may(r) and r not in found and case.room(r, found)]
    assert len(found) == case.k or not left


@pytest.mark.parametrize("seed", range(SEEDS))
def test_an_explanation_tells_what_the_answer_does(place: Place, seed: int) -> None:
    case = random_case(seed, place.release)
    case.of_release, case.options = {}, Options()
    truth = Truth(place, case, seed)
    truth.about, truth.by_model = None, truth.arm != "holdout"
    put(place.kiosk.home, case)
    who = None if case.customer is None else f"c{case.customer:06}"
    with opened(place) as recommender:
        answer = ask(recommender, truth, Options())
        rows = {place.release.item_ids.index(item.item_id): item for item in answer.items}
        for row in {seed % ITEMS, *list(rows)[:3]}:
            item_id = place.release.item_ids[row]
            e = recommender.explain(
                item_id, who, basket=case.basket, k=case.k, channel=case.channel, at=NOW
            )
            assert (e.arm, e.path) == (answer.arm, answer.path)
            order = [r for r, _ in truth.ranking(ITEMS)]
            assert e.shown_rank == (order.index(row) + 1 if row in order else None)
            assert e.shown == len(order)
            assert e.place == (list(rows).index(row) + 1 if row in rows else None)
            if e.score is not None:
                assert e.score.total == pytest.approx(e.score.engine, abs=1e-5)
            if e.online is not None and e.value is not None and e.path != "offline":
                total = e.online.from_release + e.online.from_list
                assert total == pytest.approx(e.value, abs=1e-5, rel=1e-6)
            if row in rows:
                assert e.model == answer.model
                assert e.reason == rows[row].reason
                assert e.tier == rows[row].tier
        assert recommender.warnings == []
