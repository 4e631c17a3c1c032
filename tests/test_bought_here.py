"""What is bought at a kiosk is not recommended there again, from the next answer on."""

import json
import shutil
import subprocess
import sys
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from c2rec.runtime.erasure.erase import erase
from c2rec.runtime.events import bought_file
from c2rec.runtime.events.bought_file import bought_path, lines_of
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.home.identity import identity_path
from c2rec.runtime.home.state import go_back
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.records import CHANNELS
from c2rec.runtime.release.experiment import assign
from c2rec.runtime.release.install import install
from c2rec.runtime.rules.options import Options
from c2rec.runtime.sync.sync import sync
from tests.buying import (
    CUSTOMER,
    DAY,
    OTHER,
    STRANGER,
    best,
    bought_note,
    buy,
    command,
    copy_of,
    ids,
    make_synced,
    opened,
)
from tests.enrolled import Kiosk, enrol
from tests.experiments import NAME, SHARES, add_experiment
from tests.faults.place import make_place
from tests.kiosks import make_identity
from tests.release import make_release, reseal
from tests.repositories import Head, make_head


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Kiosk:
    return make_synced(tmp_path_factory.mktemp("made"))


@pytest.fixture
def kiosk(made: Kiosk, tmp_path: Path) -> Kiosk:
    return copy_of(made, tmp_path / "home")


# --- at once, and everywhere


def test_what_another_process_records_is_left_out_of_the_next_answer(kiosk: Kiosk) -> None:
    with opened(kiosk) as recommender:
        before = {each: recommender.recommend(each) for each in (CUSTOMER, OTHER)}
        kept_back = bought_note(recommender.recommend(CUSTOMER, k=1000))
        first, second, *rest = ids(before[CUSTOMER])
        command(kiosk, "record", "bought", first, "no such item", "--customer", CUSTOMER)
        assert ids(recommender.recommend(CUSTOMER))[:9] == [second, *rest]
        assert first not in ids(recommender.recommend(CUSTOMER, channel="online", k=1000))
        whole = recommender.recommend(CUSTOMER, k=1000)
        assert first not in ids(whole)
        assert bought_note(whole) == kept_back + 1
        command(kiosk, "record", "bought", second, "--customer", CUSTOMER)
        assert ids(recommender.recommend(CUSTOMER))[:8] == rest
        assert recommender.recommend(OTHER).items == before[OTHER].items
        assert recommender.warnings == []
    told = json.loads(command(kiosk, "recommend", CUSTOMER, "--json"))
    assert [each["item_id"] for each in told["items"]][:8] == rest
    assert command(kiosk, "explain", first, "--customer", CUSTOMER).count("bought") > 0


def test_a_stranger_who_bought_something_is_not_shown_it_again(kiosk: Kiosk) -> None:
    first, *rest = best(kiosk, STRANGER)
    buy(kiosk, first, customer=STRANGER)
    assert best(kiosk, STRANGER)[:9] == rest
    assert best(kiosk, None)[0] == first


def test_what_was_not_bought_or_by_nobody_leaves_no_file(kiosk: Kiosk) -> None:
    first = best(kiosk)[0]
    buy(kiosk, first, customer=None)
    for kind in ("shown", "tapped", "dismissed"):
        buy(kiosk, first, kind=kind)
    assert best(kiosk)[0] == first
    assert not bought_path(kiosk.home).exists()


def test_it_counts_after_head_office_has_the_event(kiosk: Kiosk) -> None:
    first, *rest = best(kiosk)
    buy(kiosk, first)
    with closing(Outbox(kiosk.home, kiosk.identity)) as outbox:
        frozen = outbox.freeze()
        assert frozen is not None
        outbox.arrived(frozen)
        assert outbox.freeze() is None
    assert best(kiosk)[:9] == rest


def test_acknowledged_and_killed_it_is_left_out(kiosk: Kiosk) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from c2rec.runtime.events.events import Event, EventItem\n"
        "from c2rec.runtime.events.outbox import Outbox\n"
        "from c2rec.runtime.home.identity import find_identity\n"
        "home = Path(sys.argv[1])\n"
        "outbox = Outbox(home, find_identity(home))\n"
        "for n in range(1000000):\n"
        "    items = (EventItem(item=f'{n}'),)\n"
        "    outbox.record(Event(kind='bought', items=items, customer=sys.argv[2]))\n"
        "    print(n, flush=True)\n"
    )
    who = kiosk.pseudonym(CUSTOMER).hex()
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(kiosk.home), who], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    told = [process.stdout.readline().strip() for _ in range(20)]
    process.kill()
    told += process.stdout.read().split()
    process.stdout.close()
    process.wait()
    lines = lines_of(bought_path(kiosk.home).read_bytes())
    assert {item.decode() for _, _, item in lines} >= set(told)


def test_an_arm_s_model_and_what_sells_leave_it_out_too(tmp_path: Path) -> None:
    """A bundle installed by hand at an enrolled kiosk has customers by their ids."""
    release = make_release(tmp_path / "bundle")
    add_experiment(release.folder)
    kiosk = Kiosk(tmp_path / "home", Head(tmp_path, None), make_identity())  # type: ignore[arg-type]
    kiosk.home.mkdir()
    identity_path(kiosk.home).write_text(kiosk.identity.to_json())
    install(release.folder, kiosk.home)
    customers = release.customer_ids[3:]
    hidden = {each: kiosk.pseudonym(each).hex() for each in customers}
    arms = set()
    with opened(kiosk) as recommender:
        for customer in customers:
            before = recommender.recommend(customer)
            arms.add(before.arm)
            assert before.arm in {
                f"{NAME}/{assign(NAME, SHARES, each)}" for each in (customer, hidden[customer])
            }
            first, *rest = ids(before)
            buy(kiosk, first, customer=customer)
            assert ids(recommender.recommend(customer))[:9] == rest
            explained = recommender.explain(first, customer)
            assert explained.bars == ("bought",)
            assert explained.place is None
    assert arms == {f"{NAME}/{arm}" for arm in SHARES}


def test_a_visitor_s_purchase_is_left_out_too(tmp_path: Path) -> None:
    place = make_place(tmp_path / "place")
    stores = [["S1"] if number % 2 == 0 else ["S2"] for number in range(30)]
    place.head.publish(seed=1, stores=stores)
    place.sync()
    kiosk = Kiosk(place.home, place.head, place.head.identity("S1"))
    with place.served(), opened(kiosk, visitors=True) as recommender:
        answer = recommender.recommend(CUSTOMER)
        assert answer.tier == "personal"
        first, *rest = ids(answer)
        buy(kiosk, first)
        assert ids(recommender.recommend(CUSTOMER))[:9] == rest
        assert recommender.warnings == []


# --- for how long


@pytest.mark.parametrize(
    ("days", "later", "shown"), [(30, 29, False), (30, 30, True), (0, 0, True)]
)
def test_after_the_rule_s_days_it_may_be_shown_again(
    kiosk: Kiosk, days: int, later: int, shown: bool
) -> None:
    first = best(kiosk)[0]
    rule = f'format = 1\n[[bought]]\nitems = ["{first}"]\ndays = {days}\n'
    (kiosk.home / "rules.toml").write_text(rule)
    buy(kiosk, first, at=DAY)
    found = best(kiosk, at=DAY + timedelta(days=later), k=1000)
    assert (first in found) == shown


def test_the_last_purchase_counts_whatever_the_clock_says(kiosk: Kiosk) -> None:
    first = best(kiosk)[0]
    rule = f'format = 1\n[[bought]]\nitems = ["{first}"]\ndays = 30\n'
    (kiosk.home / "rules.toml").write_text(rule)
    for days in (0, 20, 10):
        buy(kiosk, first, at=DAY + timedelta(days=days))
    assert first not in best(kiosk, at=DAY + timedelta(days=49), k=1000)
    assert first in best(kiosk, at=DAY + timedelta(days=50), k=1000)


def test_a_clock_behind_the_data_leaves_out_what_was_bought_by_it(kiosk: Kiosk) -> None:
    first, *rest = best(kiosk)
    wrong = datetime(1999, 5, 1, tzinfo=UTC)
    buy(kiosk, first, at=wrong)
    assert best(kiosk, at=wrong + timedelta(hours=1))[:9] == rest


def publish(kiosk: Kiosk, seed: int, last: datetime) -> None:
    """Publish a release whose data end on a day, and take it."""

    def ends(document: dict[str, Any]) -> None:
        document["data"]["to"] = f"{last:%Y-%m-%d}"

    kiosk.head.publish(seed=seed, change=lambda folder: reseal(folder, ends))
    assert sync(kiosk.home).outcome == "installed"


def test_a_release_that_covers_the_day_takes_over(tmp_path: Path) -> None:
    kiosk = enrol(make_head(tmp_path / "head"), tmp_path / "home")
    sync(kiosk.home)
    publish(kiosk, 1, DAY)  # of the last day it may have a part
    first = best(kiosk)[0]
    buy(kiosk, first, at=DAY)
    assert first not in best(kiosk, k=1000)
    publish(kiosk, 1, DAY + timedelta(days=1))
    assert best(kiosk)[0] == first
    assert bought_path(kiosk.home).read_text().endswith(f" {first}\n")
    go_back(kiosk.home, "for the test")  # to one that doesn't know
    assert first not in best(kiosk, k=1000)
    publish(kiosk, 1, DAY + timedelta(days=2))
    publish(kiosk, 1, DAY + timedelta(days=3))
    assert bought_path(kiosk.home).read_bytes() == b"", "no release is there that needs it"


def test_after_a_year_it_is_forgotten(kiosk: Kiosk) -> None:
    buy(kiosk, "i000001", "i000002", at=DAY)
    buy(kiosk, "i000003", at=DAY + timedelta(days=366))
    assert bought_path(kiosk.home).read_bytes().count(b"\n") == 3
    buy(kiosk, "i000004", at=DAY + timedelta(days=367))
    left = bought_path(kiosk.home).read_text()
    assert [line.split()[2] for line in left.splitlines()] == ["i000003", "i000004"]


def test_of_a_file_that_is_too_large_the_older_half_goes(
    kiosk: Kiosk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bought_file, "MOST_BYTES", 2000)
    with opened(kiosk) as recommender:
        for n in range(200):
            buy(kiosk, f"i{n % 38:06}", at=DAY + timedelta(days=n))
            recent = {f"i{each % 38:06}" for each in range(max(0, n - 15), n + 1)}
            answer = recommender.recommend(CUSTOMER, k=1000)
            assert not recent & set(ids(answer))
            assert bought_path(kiosk.home).stat().st_size < 2100
        assert recommender.warnings == []


# --- all at once


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_what_was_bought_here_is_as_if_it_were_asked_to_be_left_out(
    made: Kiosk, tmp_path: Path, seed: int
) -> None:
    """Against a kiosk at which nothing is bought, and that is told with each request."""
    rng = Random(seed)  # noqa: S311 - no secret
    kiosk = Kiosk(Path(shutil.copytree(made.home, tmp_path / "home")), made.head, made.identity)
    item_ids = made.head.releases[0].item_ids
    customers = [CUSTOMER, OTHER, "c000000", "c000011", STRANGER]
    bought: dict[str, set[str]] = {each: set() for each in customers}
    erased = set[str]()
    plain, mine = Recommender.open(made.home), Recommender.open(kiosk.home)
    for step in range(150):
        what = rng.random()
        customer = rng.choice(customers)
        if what < 0.25:
            items = rng.sample([*item_ids, "no such"], rng.randint(1, 4))
            buy(kiosk, *items, customer=customer)
            if customer not in erased:
                bought[customer] |= set(items)
        elif what < 0.3:
            with closing(Outbox(kiosk.home, kiosk.identity)) as outbox:
                frozen = outbox.freeze()
                if frozen is not None:
                    outbox.arrived(frozen)
        elif what < 0.35:
            mine.close()
            mine = Recommender.open(kiosk.home)
        elif what < 0.37 and len(erased) < 2:
            erase(kiosk.home, customer, tmp_path / f"receipt-{step}.json")
            erased.add(customer)
            bought[customer] = set()
        else:
            channel, k = rng.choice(CHANNELS), rng.choice([1, 10, 1000])
            answer = mine.recommend(customer, channel=channel, k=k)
            assert not set(ids(answer)) & bought[customer]
            known = None if customer in erased else customer
            told = Options(dismissed=sorted(bought[customer]))
            expected = plain.recommend(known, channel=channel, k=k, options=told)
            assert ids(answer) == ids(expected)
    assert mine.warnings == []
    plain.close()
    mine.close()


def test_days_are_counted_from_1970(kiosk: Kiosk) -> None:
    buy(kiosk, "été", at=DAY)
    who = kiosk.pseudonym(CUSTOMER).hex()
    days = (date(2020, 8, 10) - date(1970, 1, 1)).days
    assert bought_path(kiosk.home).read_text() == f"{who} {days} été\n"
