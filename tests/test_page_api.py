"""The page's API over real HTTP: what it answers, to whom, and what it never says."""

import gc
import http.client
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from c2rec.runtime.events.batches import parse_batch
from c2rec.runtime.events.events import EventItem
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.home.identity import identity_path, pseudonym
from c2rec.runtime.records import LANGUAGES
from c2rec.runtime.release.experiment import assign
from c2rec.runtime.release.install import install
from c2rec.store_kiosk.api import PAGE, Api, Settings
from c2rec.store_kiosk.desk import Desk
from c2rec.store_kiosk.guard import PUBLIC
from c2rec.store_kiosk.pictures import Pictures
from c2rec.store_kiosk.sessions import MOST, Session
from tests.experiments import SHARES, add_experiment
from tests.kiosk_page import (
    CARD,
    TOKEN,
    Served,
    make_home,
    name_of,
    serve_page,
    write_picture,
    write_shelf,
)
from tests.kiosks import make_identity
from tests.release import make_release

SPEC: dict[str, Any] = json.loads((PAGE / "openapi.json").read_text())
OPERATIONS = [
    (method.upper(), path)
    for path, item in SPEC["paths"].items()
    for method in item
    if method != "parameters"
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    identity_path(make_home(folder)).write_text(make_identity().to_json())
    write_shelf(folder / "shelf.csv")
    (folder / "pictures").mkdir()
    write_picture(folder / "pictures" / "i000004.png")
    write_picture(folder / "pictures" / "été.png")
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    shelf, pictures = folder / "shelf.csv", folder / "pictures"
    with serve_page(folder / "home", shelf=shelf, pictures=pictures) as served:
        yield served


def problem_of(answer: tuple[int, dict[str, str], bytes], status: int) -> dict[str, Any]:
    """The problem document that an answer must be."""
    assert answer[0] == status, answer
    assert answer[1]["content-type"] == "application/problem+json"
    document: dict[str, Any] = json.loads(answer[2])
    assert document["status"] == status
    return document


# --- a shopper's way


def test_a_card_and_a_product_are_scanned_and_recommended_to(served: Served) -> None:
    session = served.session()
    card = served.json("POST", f"{session}/scans", {"code": CARD})
    assert card == {"kind": "card", "known": True, "product": None}
    product = served.json("POST", f"{session}/scans", {"code": "4006381333931"})
    assert product["kind"] == "product"
    assert product["product"] == {
        "item_id": "i000004",
        "name": name_of(4),
        "price": 13.9,
        "stock": 1,
        "picture": "/pictures/i000004",
    }
    answer = served.json("POST", f"{session}/recommendations", {"k": 50})
    assert answer["tier"] == "personal"
    assert [each["item_id"] for each in answer["basket"]] == ["i000004"]
    shown = {item["item_id"] for item in answer["items"]}
    assert "i000004" not in shown
    assert "i000005" not in shown  # sold out
    assert served.json("POST", f"{session}/removals", {"item_id": "i000004"}) is None
    answer = served.json("POST", f"{session}/recommendations", {})
    assert (len(answer["items"]), answer["basket"]) == (6, [])


def test_another_card_finds_nothing_of_the_shopper_before(served: Served) -> None:
    """Who forgot to end their session leaves neither a basket nor a taste."""
    session = served.session()
    served.json("POST", f"{session}/scans", {"code": "i000004"})
    served.json("POST", f"{session}/scans", {"code": CARD})
    first = served.json("POST", f"{session}/recommendations", {})
    assert [each["item_id"] for each in first["basket"]] == ["i000004"]  # scanned before the card
    served.json("POST", f"{session}/dismissals", {"item_id": first["items"][0]["item_id"]})
    served.json(
        "POST", f"{session}/scans", {"code": CARD}
    )  # the same card again is the same shopper
    again = served.json("POST", f"{session}/recommendations", {})
    assert [each["item_id"] for each in again["basket"]] == ["i000004"]
    other = CARD[:-1] + str((int(CARD[-1]) + 1) % 10)
    served.json("POST", f"{session}/scans", {"code": other})
    second = served.json("POST", f"{session}/recommendations", {})
    fresh = served.session()
    served.json("POST", f"{fresh}/scans", {"code": other})
    alone = served.json("POST", f"{fresh}/recommendations", {})
    assert second["basket"] == []
    assert second["items"] == alone["items"]


def test_an_unknown_code_changes_nothing(served: Served) -> None:
    session = served.session()
    before = served.json("POST", f"{session}/recommendations", {})
    scanned = served.json("POST", f"{session}/scans", {"code": "9999999999994"})
    assert scanned == {"kind": "unknown", "known": False, "product": None}
    assert served.json("POST", f"{session}/recommendations", {}) == before


def test_a_product_scanned_twice_is_in_the_basket_once(served: Served) -> None:
    session = served.session()
    for _ in range(2):
        served.json("POST", f"{session}/scans", {"code": "i000009"})
    answer = served.json("POST", f"{session}/recommendations", {})
    assert (answer["tier"], len(answer["basket"])) == ("basket", 1)


def test_what_is_of_no_interest_is_replaced(served: Served) -> None:
    session = served.session()
    served.json("POST", f"{session}/scans", {"code": CARD})
    first = [i["item_id"] for i in served.json("POST", f"{session}/recommendations", {})["items"]]
    served.json("POST", f"{session}/dismissals", {"item_id": first[2]})
    after = [i["item_id"] for i in served.json("POST", f"{session}/recommendations", {})["items"]]
    assert after[:5] == first[:2] + first[3:]
    assert len(after) == 6


@pytest.mark.parametrize("language", LANGUAGES)
def test_reasons_come_in_the_language_asked_for(served: Served, language: str) -> None:
    session = served.session()
    answer = served.json("POST", f"{session}/recommendations", {"language": language})
    words = {"en": "popular in the store", "de": "im Laden beliebt"}
    words["ko"] = "매장에서 인기 있는 상품이에요"
    assert answer["items"][0]["reason"] == words[language]
    detail = {"item_id": answer["items"][0]["item_id"], "language": language}
    assert served.json("POST", f"{session}/details", detail)["reason"] == words[language]


def test_a_list_names_no_past_purchase_but_a_tap_does(served: Served) -> None:
    """A screen has bystanders: the customer of c000002 buys online alone."""
    session = served.session()
    served.json("POST", f"{session}/scans", {"code": "c000002"})
    answer = served.json("POST", f"{session}/recommendations", {"k": 50})
    assert "goes with" not in json.dumps(answer)
    reasons = [
        served.json("POST", f"{session}/details", {"item_id": item["item_id"]})["reason"]
        for item in answer["items"]
    ]
    assert any(re.fullmatch("goes with “.*”, which you bought online", each) for each in reasons)


def test_a_detail_tells_what_a_score_rests_on(served: Served) -> None:
    session = served.session()
    served.json("POST", f"{session}/scans", {"code": CARD})
    item = served.json("POST", f"{session}/recommendations", {})["items"][0]
    detail = served.json("POST", f"{session}/details", {"item_id": item["item_id"]})
    for name in ("item_id", "name", "price", "stock", "picture", "score", "attention"):
        assert detail[name] == item[name]
    assert sum(detail["attention"].values()) == pytest.approx(1)
    assert set(detail["facts"]) == {"colour"}
    served.json("POST", f"{session}/scans", {"code": "i000009"})
    in_basket = served.json("POST", f"{session}/details", {"item_id": "i000009"})
    assert (in_basket["name"], in_basket["score"], in_basket["reason"]) == (name_of(9), None, None)


def test_what_can_stand_in_for_an_item_and_what_goes_with_it_are_listed(served: Served) -> None:
    session = served.session()
    served.json("POST", f"{session}/scans", {"code": CARD})
    path = f"{session}/related"
    instead = served.json("POST", path, {"item_id": "i000005"})
    assert (instead["relation"], instead["known"], instead["tier"]) == (
        "instead_of",
        True,
        "similar",
    )
    tiers = [item["tier"] for item in instead["items"]]
    assert tiers == ["similar"] * tiers.count("similar") + ["basket"] * tiers.count("basket")
    assert (len(tiers), set(tiers)) == (6, {"similar", "basket"})  # few are alike and not bought
    like = {item["reason"] for item in instead["items"] if item["tier"] == "similar"}
    assert like == {f"like “{name_of(5)}”"}
    goes = {"item_id": "i000005", "relation": "goes_with", "k": 50, "language": "de"}
    found = served.json("POST", path, goes)
    assert (found["relation"], found["tier"], found["language"]) == ("goes_with", "basket", "de")
    ids = [item["item_id"] for item in found["items"]]
    assert "i000005" not in ids
    assert len(ids) == len(set(ids)) < 40
    assert {note["kind"] for note in found["notes"]} == {"sold out", "bought"}
    assert f"passt zu „{name_of(5)}“" in {item["reason"] for item in found["items"]}


def test_about_an_item_that_nobody_knows_the_shopper_is_answered_all_the_same(
    served: Served,
) -> None:
    session = served.session()
    served.json("POST", f"{session}/scans", {"code": CARD})
    usual = served.json("POST", f"{session}/recommendations", {})
    for relation in ("instead_of", "goes_with"):
        question = {"item_id": "no such", "relation": relation}
        found = served.json("POST", f"{session}/related", question)
        assert (found["known"], found["tier"]) == (False, "personal")
        assert found["items"] == usual["items"]


def test_only_what_may_be_shown_is(served: Served) -> None:
    session = served.session()
    question = {"only": ["i000001", "i000002", "i000005"], "without": ["i000002"]}
    answer = served.json("POST", f"{session}/recommendations", question)
    assert [item["item_id"] for item in answer["items"]] == ["i000001"]


def test_a_picture_is_served_and_nothing_beside_it(served: Served) -> None:
    status, headers, content = served.ask("GET", "/pictures/%C3%A9t%C3%A9")
    assert (status, headers["content-type"]) == (200, "image/png")
    assert content.startswith(b"\x89PNG")
    for path in ("/pictures/i000009", "/pictures/../shelf.csv", "/pictures/%2e%2e%2fshelf.csv"):
        problem_of(served.ask("GET", path), 404)


def test_the_age_of_the_data_is_told(served: Served) -> None:
    data = served.json("GET", "/api/data")
    assert data["release"] == "2020-07-27-00000001"
    assert data["data"]["from"] == "2020-07-01"
    assert data["data"]["to"] == "2020-07-27"
    assert data["data"]["age_days"] > 2000


def test_without_a_release_it_says_so_and_follows_the_first(tmp_path: Path) -> None:
    with serve_page(tmp_path / "home") as served:
        session = served.session()
        assert served.json("GET", "/api/health") == {"status": "up"}
        answer = served.ask("POST", f"{session}/recommendations", {})
        assert problem_of(answer, 503)["type"] == "urn:c2rec:problem:no-release"
        assert answer[1]["retry-after"] == "1"
        make_release(tmp_path / "bundle")
        install(tmp_path / "bundle", tmp_path / "home")
        assert len(served.json("POST", f"{session}/recommendations", {})["items"]) == 6


# --- the end


def test_why_no_release_can_be_read_is_in_the_log_once(tmp_path: Path) -> None:
    """Who looks after many kiosks reads there, not what each request is answered."""
    with serve_page(tmp_path / "home") as served:
        for _ in range(3):
            assert problem_of(served.ask("GET", "/api/data"), 503)
        warnings = [line for line in served.log if '"warning"' in line]
    assert len(warnings) == 1
    assert "no release is installed in" in warnings[0]


def test_nothing_is_left_of_a_session_that_has_ended(served: Served) -> None:
    session = served.session()
    served.json("POST", f"{session}/scans", {"code": CARD})
    served.json("POST", f"{session}/scans", {"code": "i000023"})  # no other test has it
    served.json("POST", f"{session}/recommendations", {})
    assert served.json("DELETE", session) is None
    assert served.json("DELETE", session) is None  # once more is no error
    for part in (
        "scans", "recommendations", "details", "related", "dismissals", "removals", "extensions",
    ):  # fmt: skip
        body: dict[str, dict[str, str]] = {"scans": {"code": CARD}}
        body |= {"recommendations": {}, "extensions": {}}
        answer = served.ask("POST", f"{session}/{part}", body.get(part, {"item_id": "i000009"}))
        assert problem_of(answer, 404)["type"] == "urn:c2rec:problem:session-ended"
    gc.collect()
    alive = [each for each in gc.get_objects() if type(each) is Session]
    assert not [each for each in alive if "i000023" in each.basket]
    other = served.session()
    answer = served.json("POST", f"{other}/recommendations", {})
    assert (answer["tier"], answer["basket"]) == ("store-popular", [])


def test_the_log_names_routes_and_nothing_of_a_shopper(folder: Path) -> None:
    with serve_page(folder / "home", pictures=folder / "pictures") as served:
        session = served.session()
        served.json("POST", f"{session}/scans", {"code": CARD})
        served.json("POST", f"{session}/scans", {"code": "i000004"})
        item = served.json("POST", f"{session}/recommendations", {})["items"][0]
        served.json("POST", f"{session}/details", {"item_id": item["item_id"]})
        served.ask("GET", "/pictures/i000004")
        served.ask("GET", f"/?token={TOKEN}")
        served.ask("GET", f"/no/{CARD}?q={CARD}")
        served.ask("POST", f"{session}/scans", {"code": CARD + "\n"})
        served.json("DELETE", session)
    text = "\n".join(served.log)
    for secret in (session[-24:], CARD, "i000004", item["item_id"], name_of(4), TOKEN):
        assert secret not in text
    entries = [json.loads(line) for line in served.log]
    keys = ("time", "level", "event", "method", "route", "status", "ms")
    assert {tuple(entry) for entry in entries} == {keys}
    assert [(e["route"], e["status"]) for e in entries][:3] == [
        ("/api/sessions", 201),
        ("/api/sessions/{session}/scans", 200),
        ("/api/sessions/{session}/scans", 200),
    ]


def test_a_refusal_repeats_nothing_that_was_sent(served: Served) -> None:
    session = served.session()
    private = "privat-4711"
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("scans", {"code": private + "\x07"}),
        ("scans", {"code": private * 20}),
        ("scans", {"code": private, private: 1}),
        ("recommendations", {"language": private}),
        ("recommendations", {"only": [private, ""]}),
        ("recommendations", {"k": private}),
        ("details", {"item_id": private}),
        ("details", {"item_id": private + "\ud800"}),
    ]
    for part, body in bodies:
        answer = served.ask("POST", f"{session}/{part}", body)
        assert answer[0] in (404, 422)
        assert private not in str(problem_of(answer, answer[0]))


# --- events


def test_what_is_shown_tapped_and_dismissed_is_kept_for_head_office(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    identity = make_identity()
    identity_path(home).write_text(identity.to_json())
    with serve_page(home) as served:
        session = served.session()
        served.json("POST", f"{session}/scans", {"code": CARD})
        items = served.json("POST", f"{session}/recommendations", {})["items"]
        served.json("POST", f"{session}/recommendations", {"language": "ko"})  # the same, retold
        served.json("POST", f"{session}/details", {"item_id": items[0]["item_id"]})
        for _ in range(2):
            served.json("POST", f"{session}/dismissals", {"item_id": items[1]["item_id"]})
        served.json("POST", f"{session}/dismissals", {"item_id": "never shown"})
        served.json("POST", f"{session}/recommendations", {})
        served.json("DELETE", session)
    outbox = Outbox(home, identity)
    frozen = outbox.freeze()
    outbox.close()
    assert frozen is not None
    events = [each.event for each in parse_batch(frozen.content, identity.device_key).records]
    assert [event.kind for event in events] == ["shown", "tapped", "dismissed", "shown"]
    assert [each.item for each in events[0].items] == [item["item_id"] for item in items]
    assert [each.items[0].item for each in events[1:3]] == [i["item_id"] for i in items[:2]]
    who = pseudonym(identity.customer_key, CARD).hex()
    assert {event.customer for event in events} == {who}
    (visit,) = {event.session for event in events}
    assert visit
    assert visit not in session
    assert (events[0].tier, events[0].path, events[0].channel) == ("personal", "offline", "offline")
    for path in home.rglob("events*"):
        assert CARD.encode() not in path.read_bytes()


def test_every_event_of_a_visit_has_the_arm_of_the_answer_that_was_shown(tmp_path: Path) -> None:
    """Whatever is active by then: here a release without the experiment takes its place."""
    release = make_release(tmp_path / "bundle")
    add_experiment(release.folder)
    home, identity = tmp_path / "home", make_identity()
    install(release.folder, home)
    identity_path(home).write_text(identity.to_json())
    known, seen = [f"c{n:06}" for n in range(3, 30)], {}
    session, shown = "", dict[str, Any]()

    def arm_of(customer: str) -> str:
        return assign("spring", SHARES, pseudonym(identity.customer_key, customer).hex())

    with serve_page(home) as served:
        for arm in SHARES:
            of_arm = (each for each in known if arm_of(each) == arm)
            customer = next(of_arm)
            session = served.session()
            served.json("POST", f"{session}/recommendations", {})  # nobody yet
            assert served.json("POST", f"{session}/scans", {"code": customer})["known"]
            shown = served.json("POST", f"{session}/recommendations", {})
            item = {"item_id": shown["items"][0]["item_id"]}
            detail = served.json("POST", f"{session}/details", item)
            assert detail["arm"] == shown["arm"] == f"spring/{arm}"
            served.json("POST", f"{session}/dismissals", item)
            served.json("POST", f"{session}/purchases", {"items": [item]})
            seen[pseudonym(identity.customer_key, customer).hex()] = shown["arm"], shown["model"]
        other = make_release(tmp_path / "other", name="2020-08-27-00000002", seed=1)
        install(other.folder, home)
        served.json("POST", f"{session}/dismissals", {"item_id": shown["items"][1]["item_id"]})
        again = served.json("POST", f"{session}/recommendations", {})
        assert (again["arm"], again["model"]) == (None, "main")
    outbox = Outbox(home, identity)
    frozen = outbox.freeze()
    outbox.close()
    assert frozen is not None
    events = [each.event for each in parse_batch(frozen.content, identity.device_key).records]
    assert {event.arm for event in events if event.customer is None} == {None}
    for name, (label, model) in seen.items():
        theirs = [event for event in events if event.customer == name]
        told = [(event.kind, event.arm, event.model) for event in theirs]
        assert told[0] == ("shown", label, model)
        kinds = ("tapped", "dismissed", "bought")
        assert told[1:4] == [(kind, label, None) for kind in kinds]
    last = [(event.kind, event.arm) for event in events[-2:]]
    assert last == [("dismissed", "spring/holdout"), ("shown", None)]


def test_a_kiosk_that_can_t_keep_events_answers_all_the_same(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    identity_path(home).write_text("no identity")
    with serve_page(home) as served:
        session = served.session()
        assert len(served.json("POST", f"{session}/recommendations", {})["items"]) == 6
        item = {"item_id": "i000004"}
        assert served.json("POST", f"{session}/details", item)["name"] == name_of(4)
    warnings = [line for line in served.log if line.endswith('events are not kept"}')]
    assert len(warnings) == 1


def test_what_is_bought_is_on_disk_when_it_is_answered_and_counts_once(tmp_path: Path) -> None:
    home, identity = make_home(tmp_path), make_identity()
    identity_path(home).write_text(identity.to_json())
    lines = [{"item_id": "i000004", "quantity": 2, "price": 9.9}, {"item_id": "i000009"}]
    with serve_page(home) as served:
        session = served.session()
        served.json("POST", f"{session}/scans", {"code": CARD})
        path = f"{session}/purchases"
        first = served.json("POST", path, {"items": lines, "receipt": "12/7"})["event_id"]
        again = served.json("POST", path, {"items": lines, "receipt": "12/7"})["event_id"]
        other = served.json("POST", path, {"items": lines[1:]})["event_id"]
        assert again == first != other
        answer = served.ask("POST", path, {"items": lines[1:], "receipt": "12/7"})
        assert "another purchase's" in problem_of(answer, 409)["title"]
        outbox = Outbox(home, identity)  # another process's, while the page is served
        frozen = outbox.freeze()
        outbox.close()
    assert frozen is not None
    records = parse_batch(frozen.content, identity.device_key).records
    assert [each.stamp.event_id for each in records] == [first, other]
    record = records[0]
    assert record.event.kind == "bought"
    assert record.event.customer == pseudonym(identity.customer_key, CARD).hex()
    assert record.event.session
    assert record.event.items == (
        EventItem(item="i000004", quantity=2, price=9.9),
        EventItem(item="i000009", quantity=1),
    )


def test_what_was_paid_for_is_not_shown_again(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    identity_path(home).write_text(make_identity().to_json())
    with serve_page(home) as served:
        session = served.session()
        served.json("POST", f"{session}/scans", {"code": CARD})
        shown = served.json("POST", f"{session}/recommendations", {})["items"]
        first, *rest = [each["item_id"] for each in shown]
        served.json("POST", f"{session}/purchases", {"items": [{"item_id": first}]})
        served.json("DELETE", session)
        session = served.session()
        served.json("POST", f"{session}/scans", {"code": CARD})
        shown = served.json("POST", f"{session}/recommendations", {})["items"]
        assert [each["item_id"] for each in shown][: len(rest)] == rest


def test_a_purchase_that_can_t_be_kept_is_told_and_can_be_sent_again(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    body = {"items": [{"item_id": "i000004", "price": 1}], "receipt": "1"}
    with serve_page(home) as served:
        path = f"{served.session()}/purchases"
        problem_of(served.ask("POST", path, body), 409)
        identity_path(home).write_text(make_identity().to_json())
        (home / "events.db").mkdir()
        answer = served.ask("POST", path, body)
        assert "doesn't count" in problem_of(answer, 503)["title"]
        assert answer[1]["retry-after"] == "1"
        (home / "events.db").rmdir()
        assert len(served.json("POST", path, body)["event_id"]) == 32
    assert [line for line in served.log if "a purchase could not be kept" in line]


LINE = {"item_id": "i000004"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"items": LINE},
        {"items": []},
        {"items": [LINE] * 201},
        {"items": ["i000004"]},
        {"items": [LINE | {"quantity": 0}]},
        {"items": [LINE | {"quantity": 1.5}]},
        {"items": [LINE | {"price": -0.01}]},
        {"items": [LINE | {"price": "9.9"}]},
        {"items": [LINE | {"price": float("nan")}]},
        {"items": [LINE | {"prize": 9.9}]},
        {"items": [{"item_id": "i\n"}]},
        {"items": [{"item_id": " i"}]},
        {"items": [{"item_id": f"{n:06}" + "x" * 250} for n in range(40)]},
        {"items": [LINE], "receipt": "a b"},
        {"items": [LINE], "receipt": 7},
    ],
)
def test_a_purchase_that_is_none_is_refused(served: Served, body: dict[str, object]) -> None:
    session = served.session()
    assert problem_of(served.ask("POST", f"{session}/purchases", body), 422)["detail"]
    served.json("DELETE", session)


# --- who may ask


def test_without_the_token_nothing_is_told(served: Served) -> None:
    for method, path in OPERATIONS:
        body: dict[str, str] | None = {} if method == "POST" else None
        if not path.startswith(PUBLIC):
            for token in ("", "Bearer wrong", f"Basic {TOKEN}", "Bearer", "Bearer \xfc"):
                answer = served.ask(method, path, body, Authorization=token)
                assert problem_of(answer, 401)["type"] == "urn:c2rec:problem:no-token"
                assert answer[1]["www-authenticate"] == "Bearer"
    status, headers, content = served.ask("GET", "/", Authorization="")
    assert (status, headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert b"This page is locked" in content
    assert served.ask("GET", "/?token=wrong", Authorization="")[0] == 401
    assert served.ask("GET", "/api/health", Authorization="")[0] == 200


def test_the_address_with_the_token_opens_the_page_and_leaves_the_token_behind(
    served: Served,
) -> None:
    status, headers, _ = served.ask("GET", f"/?token={TOKEN}", Authorization="")
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"]
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    kept = cookie.partition(";")[0]
    assert served.ask("GET", "/", Authorization="", Cookie=f"a=b; {kept}")[0] == 200
    assert served.ask("GET", "/api/data", Authorization="", Cookie=kept)[0] == 200
    assert served.ask("GET", "/api/data", Authorization="", Cookie=kept[:-1] + "x")[0] == 401
    # a browser that was there before leaves it behind, too
    status, headers, _ = served.ask("GET", f"/?token={TOKEN}", Authorization="", Cookie=kept)
    assert (status, headers["location"]) == (303, "/")
    assert served.ask("GET", "/?token=old", Authorization="", Cookie=kept)[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1.evil.example:{port}", "127.0.0.1:{other}", ""]
)
def test_another_name_for_this_machine_is_refused(served: Served, host: str) -> None:
    """A page of another site whose name was bent to 127.0.0.1 comes with its own name."""
    name = host.format(port=served.port, other=served.port + 1)
    for path in ("/", "/api/health", "/page/page.js", f"/?token={TOKEN}"):
        assert problem_of(served.ask("GET", path, Host=name), 421)
    assert served.ask("GET", "/api/health", Host=f"LOCALHOST:{served.port}")[0] == 200


def test_another_site_may_not_ask(served: Served) -> None:
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{served.port}"):
        answer = served.ask("POST", "/api/sessions", {}, Origin=origin)
        assert problem_of(answer, 403)["type"] == "urn:c2rec:problem:foreign-origin"
    own = f"http://127.0.0.1:{served.port}"
    assert served.ask("POST", "/api/sessions", {}, Origin=own)[0] == 201


def test_without_a_token_everybody_on_the_machine_may_ask(folder: Path) -> None:
    with serve_page(folder / "home", token=None) as served:
        assert served.ask("GET", "/api/data", Authorization="")[0] == 200
        assert problem_of(served.ask("GET", "/", Host="evil.example"), 421)


@pytest.mark.parametrize("path", ["/", "/api/data", "/page/page.js", "/no", "/pictures/i000004"])
def test_every_answer_is_kept_nowhere_and_asks_nobody_else(served: Served, path: str) -> None:
    for token in (f"Bearer {TOKEN}", ""):
        headers = served.ask("GET", path, Authorization=token)[1]
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert "server" not in headers


def test_no_file_of_the_page_names_another_address() -> None:
    for path in PAGE.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "//" not in re.sub(r"(?m)^\s*//.*$|; //.*$|, //.*$", "", text), path
        if path.suffix == ".html":
            assert not re.search(r"<script>|\sstyle=|\son\w+=", text)


# --- what can't be asked


@pytest.mark.parametrize(
    ("body", "status", "what"),
    [
        (b"", 400, "bad-json"),
        (b"{", 400, "bad-json"),
        (b"\xff{}", 400, "bad-json"),
        (b"[]", 400, "bad-json"),
        (b"[" * 60_000, 400, "bad-json"),
        (b'{"k": 1e400}', 422, "bad-field"),
        (b'{"k": NaN}', 422, "bad-field"),
        (b'{"k": true}', 422, "bad-field"),
        (b'{"k": 51}', 422, "bad-field"),
        (b'{"k": 2.5}', 422, "bad-field"),
        (b'{"channel": null}', 422, "bad-field"),
        (b'{"only": "i000004"}', 422, "bad-field"),
        (b'{"only": [1]}', 422, "bad-field"),
        (b'{"K": 3}', 422, "bad-field"),
    ],
)
def test_a_body_that_is_none_is_refused(
    served: Served, body: bytes, status: int, what: str
) -> None:
    answer = served.ask("POST", f"{served.session()}/recommendations", body)
    assert problem_of(answer, status)["type"] == f"urn:c2rec:problem:{what}"


@pytest.mark.parametrize(
    "code", ["", "\x1d0104", "a\tb", "a\n", "\x00", "x" * 129, "\x9b31m", None, 7]
)
def test_a_scan_that_is_none_is_refused(served: Served, code: object) -> None:
    answer = served.ask("POST", f"{served.session()}/scans", {"code": code})
    assert "128 characters" in problem_of(answer, 422)["detail"]


def test_a_body_must_be_declared_as_json(served: Served) -> None:
    """What a form of another site can send, without asking first, is not."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "text/plain"}
    connection.request("POST", "/api/sessions", b"{}", headers)
    response = connection.getresponse()
    assert response.status == 415
    response.read()
    connection.close()


def test_a_wrong_method_or_address_is_a_problem_too(served: Served) -> None:
    answer = served.ask("PUT", "/api/sessions", {})
    assert problem_of(answer, 405)
    assert answer[1]["allow"] == "POST"
    for path in ("/no", "/api/", "/page/none.js", "/page/../api.py", "/page/%2e%2e/api.py"):
        assert problem_of(served.ask("GET", path), 404)


def test_sessions_have_an_end(folder: Path) -> None:
    with serve_page(folder / "home") as served:
        for _ in range(MOST):
            served.session()
        answer = served.ask("POST", "/api/sessions", {})
        assert problem_of(answer, 503)["type"] == "urn:c2rec:problem:busy"
        assert "retry-after" in answer[1]


# --- the document


def test_the_document_names_every_route_and_no_other(tmp_path: Path) -> None:
    app = Api(Desk(tmp_path), Settings(), Pictures(None)).app()
    routed = set()
    for route in app.routes:
        path = getattr(route, "path", "").replace(":path", "")
        routed |= {(method, path) for method in getattr(route, "methods", None) or ()}
    pages = {("GET", "/")}
    assert {(m, p) for m, p in routed if m != "HEAD"} - pages == set(OPERATIONS)


def test_the_document_is_served(served: Served) -> None:
    assert served.json("GET", "/api/openapi.json") == SPEC


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_whatever_is_sent_is_answered_as_documented(served: Served, mode: str) -> None:
    """Schemathesis makes up requests that fit the document, and requests that don't."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.invented_requests", str(served.port), mode],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    asked = dict(line.split(" ", 1)[::-1] for line in done.stdout.splitlines())
    assert set(asked) >= {f"{method} {path}" for method, path in OPERATIONS if method == "POST"}
    assert sum(map(int, asked.values())) > 100
    assert [line for line in served.log if '"error"' in line] == []


# --- rules and wishes


def shown_by(served: Served, session: str, **wishes: object) -> list[str]:
    answer = served.json("POST", f"{session}/recommendations", {"k": 50, **wishes})
    return [item["item_id"] for item in answer["items"]]


def test_what_is_asked_for_is_kept_to(served: Served) -> None:
    session = served.session()
    everything = shown_by(served, session)
    colours = {f"i{row:06}": row // 10 for row in range(38)}
    navy = [i for i in everything if colours.get(i) == 1]
    assert shown_by(served, session, where={"colour": ["navy"]}) == navy
    cheap = [i for i in navy if 9.9 + int(i[1:]) <= 25]
    for ends in ({"from": 0, "to": 25}, {"from": 25, "to": 0}, {"to": 25}):
        assert shown_by(served, session, where={"colour": ["navy"]}, price=ends) == cheap
    few = shown_by(served, session, at_most={"colour": 2}, diversity=0.5)
    assert len(few) == 8
    short = served.json("POST", f"{session}/recommendations", {"where": {"colour": ["none"]}})
    assert short["items"] == []
    assert {name: value for name, value in short["notes"][-1].items() if name != "text"} == {
        "kind": "category",
        "rule": "",
        "items": 40,
    }
    german = served.json(
        "POST", f"{session}/recommendations", {"where": {"colour": ["none"]}, "language": "de"}
    )
    assert german["notes"][-1]["text"] == "aus einer anderen Kategorie als verlangt: 40"


@pytest.mark.parametrize(
    ("wishes", "status"),
    [
        ({"where": {"size": ["S"]}}, 404),
        ({"at_most": {"size": 1}}, 404),
        ({"where": {"colour": []}}, 422),
        ({"where": {"colour": "navy"}}, 422),
        ({"where": {str(number): ["a"] for number in range(21)}}, 422),
        ({"where": ["colour"]}, 422),
        ({"price": {"from": -1}}, 422),
        ({"price": {"from": True}}, 422),
        ({"price": {"under": 1}}, 422),
        ({"at_most": {"colour": 0}}, 422),
        ({"at_most": {"colour": 1.5}}, 422),
        ({"diversity": 1.5}, 422),
        ({"diversity": "much"}, 422),
    ],
)
def test_a_wish_that_can_t_be_is_a_problem_that_repeats_nothing(
    served: Served, wishes: dict[str, object], status: int
) -> None:
    answer = served.ask("POST", f"{served.session()}/recommendations", wishes)
    assert "size" not in json.dumps(problem_of(answer, status))


def test_what_was_shown_often_and_not_tapped_goes_behind(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    (home / "rules.toml").write_text("format = 1\n[session]\nrepeats = 2\n")
    with serve_page(home) as served:
        session = served.session()
        first = shown_by(served, session, k=4)
        assert shown_by(served, session, k=4, language="de") == first, "the same question again"
        served.json("POST", f"{session}/details", {"item_id": first[1]})
        assert shown_by(served, session, k=3) == first[:3], "shown once by now"
        later = shown_by(served, session, k=4)
        assert later[0] == first[1], "tapped"
        assert first[3] in later, "shown once"
        assert not {first[0], first[2]} & set(later)
        assert set(shown_by(served, session, k=50)) > set(first), "never shorter"
