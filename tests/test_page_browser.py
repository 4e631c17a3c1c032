"""The page as a shopper's browser shows it: Chromium, headless, on a real server."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from c2rec.runtime.records import LANGUAGES
from c2rec.store_kiosk.api import Settings
from tests.browsers import chromium
from tests.kiosk_page import (
    CARD,
    PRODUCTS,
    TOKEN,
    Served,
    make_home,
    name_of,
    rename,
    serve_page,
    write_picture,
    write_shelf,
)
from tests.release import make_release

HOSTILE = "<img src=x onerror=document.title='pwned'>"
SOLD_OUT = "i000005"
Visit = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    make_home(folder)
    write_shelf(folder / "shelf.csv")
    (folder / "pictures").mkdir()
    for row in range(0, 40, 3):
        write_picture(folder / "pictures" / f"i{row:06}.png")
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    shelf, pictures = folder / "shelf.csv", folder / "pictures"
    with serve_page(folder / "home", shelf=shelf, pictures=pictures) as served:
        yield served


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Open the page with the token, and note what it asks for and complains about."""
    contexts = []
    asked: list[tuple[str, str]] = []
    complaints: list[str] = []
    allowed: list[str] = []

    def opened(
        served: Served,
        *,
        clock: bool = False,
        width: int = 1080,
        complains: str = "",
        token: str = TOKEN,
    ) -> Page:
        allowed.append(complains)
        context = browser.new_context(viewport={"width": width, "height": 1000})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append((request.url, served.address)))
        if clock:
            page.clock.install()
        page.goto(f"{served.address}?token={token}")
        if token == TOKEN:
            expect(page.locator("#languages button")).to_have_count(len(LANGUAGES))
            expect(page.locator("#age")).not_to_be_empty()
        return page

    yield opened
    for context in contexts:
        context.close()
    pattern = "|".join(each for each in allowed if each) or "nothing at all"
    assert [text for text in complaints if not re.search(pattern, text)] == []
    assert [url for url, own in asked if not url.startswith(own)] == []


def scan(page: Page, code: str) -> None:
    """As a scanner types it: fast, and ended by Enter."""
    page.keyboard.type(code)
    page.keyboard.press("Enter")


def shop(page: Page) -> None:
    """A card, and a product in the basket."""
    scan(page, CARD)
    expect(page.locator(".card")).to_have_count(6)
    scan(page, PRODUCTS[1])
    expect(page.locator("#basket-items li")).to_have_count(1)


def names(page: Page) -> list[str]:
    return page.locator(".card .name").all_inner_texts()


def violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {node['html']}" for each in found for node in each["nodes"]]


# --- a shopper's way


def test_a_card_and_a_product_are_scanned(visit: Visit, served: Served) -> None:
    page = visit(served)
    scan(page, CARD)
    expect(page.get_by_role("heading", name="For you")).to_be_focused()
    expect(page.get_by_role("status")).to_have_text("Your card was read. 6 recommendations.")
    scan(page, "4006381333931")
    expect(page.get_by_role("status")).to_contain_text(f"{name_of(4)} is in your basket.")
    expect(page.locator("#basket-items li")).to_have_text(re.compile(re.escape(name_of(4))))
    assert len(names(page)) == 6
    assert name_of(4) not in names(page)
    card = page.locator(".card", has_text="€").first
    expect(card.locator(".price")).to_have_text(re.compile(r"€\d+\.90"))
    expect(card.locator(".stock")).to_have_text(re.compile(r"\d in stock"))
    assert all(text for text in page.locator(".card .reason").all_inner_texts())
    page.get_by_role("button", name=f"Remove {name_of(4)}").click()
    expect(page.locator("#basket-items li")).to_have_count(0)


def test_a_code_can_be_typed_by_hand(visit: Visit, served: Served) -> None:
    page = visit(served)
    page.get_by_label("Or type the code").fill(PRODUCTS[0])
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("heading", name="Goes with your basket")).to_be_focused()


def test_without_a_card_there_is_what_is_popular(visit: Visit, served: Served) -> None:
    page = visit(served)
    page.get_by_role("button", name="Show what is popular").click()
    expect(page.get_by_role("heading", name="Popular now")).to_be_focused()
    expect(page.locator(".card")).to_have_count(6)


def test_an_item_is_shown_where_there_is_a_picture_and_a_tile_else(
    visit: Visit, served: Served
) -> None:
    page = visit(served)
    shop(page)
    for card in page.locator(".card").all():
        item = card.get_attribute("data-item") or ""
        pictured = item[1:].isdigit() and int(item[1:]) % 3 == 0
        assert card.locator("img").count() == pictured
        assert card.locator(".tile").count() == (not pictured)
    drawn = "() => [...document.images].every(i => i.complete && i.naturalWidth > 0)"
    page.wait_for_function(drawn)


def test_a_tap_explains_an_item(visit: Visit, served: Served) -> None:
    page = visit(served)
    shop(page)
    name = names(page)[0]
    page.get_by_role("button", name=f"Details of {name}").click()
    dialog = page.get_by_role("dialog", name=name)
    expect(dialog.get_by_role("heading", name=name)).to_be_focused()
    expect(dialog).to_contain_text("colour")
    dialog.get_by_text("What this rests on").click()
    shares = dialog.locator("#detail-why dd").all_inner_texts()[:3]
    assert 99 <= sum(int(each.rstrip("%")) for each in shares) <= 101
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("button", name=f"Details of {name}")).to_be_focused()


def test_a_product_that_is_sold_out_is_told_with_what_can_stand_in(
    visit: Visit, served: Served
) -> None:
    page = visit(served)
    scan(page, SOLD_OUT)
    dialog = page.get_by_role("dialog", name=name_of(5))
    expect(dialog.get_by_role("heading", name=name_of(5))).to_be_focused()
    expect(dialog.locator("#detail-stock")).to_have_text("sold out")
    alternatives = dialog.get_by_role("button", name="Alternatives")
    expect(alternatives).to_have_attribute("aria-pressed", "true")
    expect(dialog.get_by_role("heading", name="Similar items")).to_be_visible()
    expect(dialog.locator("#related li")).to_have_count(6)
    assert name_of(5) not in dialog.locator("#related .name").all_inner_texts()
    reasons = set(dialog.locator("#related .reason").all_inner_texts())
    assert {each.lower() for each in reasons} == {f"like “{name_of(5)}”".lower()}
    expect(dialog.get_by_role("button", name="Not interested")).to_be_hidden()
    other = dialog.locator("#related .name").first.inner_text()
    dialog.locator("#related button").first.click()
    expect(page.get_by_role("dialog", name=other)).to_be_visible()
    expect(page.locator("#detail-title")).to_be_focused()
    expect(page.locator("#related")).to_be_empty()


def test_a_detail_offers_what_goes_with_it(visit: Visit, served: Served) -> None:
    page = visit(served)
    shop(page)
    page.get_by_role("button", name=f"Details of {name_of(9)}").click()  # from the basket
    page.get_by_role("button", name="Goes well with it").click()
    expect(page.get_by_role("heading", name="Goes well with it")).to_be_focused()
    expect(page.locator("#goes_with")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#instead_of")).to_have_attribute("aria-pressed", "false")
    assert name_of(9) not in page.locator("#related .name").all_inner_texts()
    page.get_by_role("button", name="Alternatives").click()
    expect(page.locator("#instead_of")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("heading", name="Similar items")).to_be_focused()


@pytest.mark.parametrize("where", ["list", "detail"])
def test_an_item_of_no_interest_is_replaced_in_its_place(
    visit: Visit, served: Served, where: str
) -> None:
    page = visit(served)
    shop(page)
    before = names(page)
    if where == "list":
        page.get_by_role("button", name=f"Not interested in {before[2]}").click()
    else:
        page.get_by_role("button", name=f"Details of {before[2]}").click()
        page.locator("#detail").get_by_role("button", name="Not interested").click()
        expect(page.locator("#detail")).to_be_hidden()
    expect(page.get_by_role("status")).to_contain_text("Replaced by ")
    after = names(page)
    assert after[:2] + after[3:] == before[:2] + before[3:]
    assert after[2] not in before
    expect(page.locator(".open").nth(2)).to_be_focused()


def test_when_everything_is_of_no_interest_the_page_says_so(
    visit: Visit, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "shelf.csv"
    rows = "".join(f"i{row:06},0\n" for row in range(2, 38))
    path.write_text(f"item_id,stock\n{rows}")
    with serve_page(folder / "home", shelf=path) as served:
        page = visit(served)
        page.get_by_role("button", name="Show what is popular").click()
        expect(page.locator(".card")).to_have_count(4)
        for left in (3, 2, 1, 0):
            page.get_by_role("button", name="Not interested").first.click()
            expect(page.locator(".card")).to_have_count(left)
        expect(page.get_by_text("There is nothing left to recommend.")).to_be_visible()


def test_html_in_a_name_stays_text(visit: Visit, tmp_path: Path) -> None:
    from c2rec.runtime.release.install import install

    release = make_release(tmp_path / "bundle")
    rename(release, [f"{HOSTILE} {row}" for row in range(40)])
    install(release.folder, tmp_path / "home")
    with serve_page(tmp_path / "home") as served:
        page = visit(served)
        shop(page)
        page.locator(".open").first.click()
        expect(page.locator("#detail-title")).to_contain_text(HOSTILE)
        assert page.locator("[onerror]").count() == 0
        assert page.title() == "Picked for you"


# --- scans that are none


@pytest.mark.parametrize(
    ("first", "key"),
    [("c0000", "Control+j"), ("c0000", "Tab"), ("c0000", "Escape"), ("", "Control+]")],
)
def test_a_scan_with_control_characters_is_refused(
    visit: Visit, served: Served, first: str, key: str
) -> None:
    page = visit(served)
    page.keyboard.type(first)
    page.keyboard.press(key)
    scan(page, "03")
    expect(page.get_by_role("status")).to_contain_text("The code could not be read")
    expect(page.locator(".card")).to_have_count(0)
    scan(page, CARD)
    expect(page.locator(".card")).to_have_count(6)


def test_a_scan_that_is_too_long_is_refused(visit: Visit, served: Served) -> None:
    page = visit(served)
    scan(page, "7" * 129)
    expect(page.get_by_role("status")).to_contain_text("it is too long")
    scan(page, "7" * 128)
    expect(page.get_by_role("status")).to_contain_text("not known here: 7777")


def test_keys_that_a_person_presses_are_no_scan(visit: Visit, served: Served) -> None:
    page = visit(served, clock=True)
    for key in CARD:
        page.keyboard.press(key)
        page.clock.run_for(800)
    page.get_by_role("button", name="High contrast").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="High contrast")).to_have_attribute(
        "aria-pressed", "true"
    )
    assert page.locator(".card").count() == 0


def test_a_scan_presses_no_button_that_has_the_focus(visit: Visit, served: Served) -> None:
    page = visit(served)
    shop(page)
    page.get_by_role("button", name="End and clear").focus()
    scan(page, PRODUCTS[0])
    expect(page.locator("#basket-items li")).to_have_count(2)


def test_a_scan_while_a_detail_is_open_goes_on_from_there(visit: Visit, served: Served) -> None:
    page = visit(served)
    shop(page)
    page.locator(".open").first.click()
    expect(page.locator("#detail")).to_be_visible()
    scan(page, PRODUCTS[0])
    expect(page.locator("#basket-items li")).to_have_count(2)
    expect(page.locator("#detail")).to_be_hidden()


# --- idleness


def idle_warning(page: Page) -> None:
    page.clock.run_for(59_000)
    expect(page.locator("#idle")).to_be_hidden()
    page.clock.run_for(2_000)
    expect(page.get_by_role("alertdialog", name="Are you still there?")).to_be_visible()
    expect(page.get_by_role("button", name="I am still here")).to_be_focused()


def test_an_idle_shopper_is_warned_and_can_go_on(visit: Visit, served: Served) -> None:
    page = visit(served, clock=True)
    shop(page)
    before = names(page)
    idle_warning(page)
    expect(page.locator("#idle")).to_contain_text(re.compile("in (29|30) seconds"))
    page.clock.run_for(20_000)
    expect(page.locator("#idle-left")).to_have_text(re.compile("^(9|10)$"))
    page.get_by_role("button", name="I am still here").click()
    expect(page.locator("#idle")).to_be_hidden()
    page.clock.run_for(55_000)
    assert names(page) == before
    expect(page.locator("#idle")).to_be_hidden()


@pytest.mark.parametrize("sign", ["touch", "scan", "key"])
def test_touches_and_scans_are_signs_of_life(visit: Visit, served: Served, sign: str) -> None:
    page = visit(served, clock=True)
    shop(page)
    for _ in range(2):
        page.clock.run_for(50_000)
        if sign == "touch":
            page.mouse.click(540, 30)
        elif sign == "scan":
            scan(page, PRODUCTS[0])
        else:
            page.keyboard.press("Shift")
    expect(page.locator("#idle")).to_be_hidden()
    idle_warning(page)
    if sign == "touch":
        page.mouse.click(540, 30)
    elif sign == "scan":
        scan(page, "i000011")
        expect(page.locator("#basket-items")).to_contain_text(name_of(11))
    else:
        page.keyboard.press("Shift")
    expect(page.locator("#idle")).to_be_hidden()
    expect(page.locator(".card")).to_have_count(6)


def test_an_idle_session_is_cleared(visit: Visit, served: Served) -> None:
    page = visit(served, clock=True)
    shop(page)
    idle_warning(page)
    page.clock.run_for(27_000)
    expect(page.locator("#idle")).to_be_visible()
    page.clock.run_for(4_000)
    expect(page.get_by_role("heading", name="Scan your card or a product")).to_be_focused()
    expect(page.get_by_role("status")).to_have_text("Everything is cleared.")
    assert page.locator(".card, #basket-items li, dialog[open]").count() == 0


def test_choices_alone_are_reset_when_idle(visit: Visit, served: Served) -> None:
    """The next shopper finds the store's language and size, and no code half typed."""
    page = visit(served, clock=True)
    page.get_by_role("button", name="Deutsch").click()
    page.get_by_role("button", name="Schrift: normal").click()
    page.get_by_label("Oder geben Sie").fill("c00")
    page.clock.run_for(61_000)
    expect(page.get_by_role("alertdialog", name="Sind Sie noch da?")).to_be_visible()
    page.clock.run_for(31_000)
    expect(page.get_by_role("heading", name="Scan your card or a product")).to_be_visible()
    expect(page.get_by_label("Or type the code")).to_have_value("")
    expect(page.get_by_role("button", name="Text: normal")).to_be_visible()


# --- the end


def test_nothing_of_a_shopper_is_left_in_the_browser(visit: Visit, folder: Path) -> None:
    with serve_page(folder / "home", shelf=folder / "shelf.csv") as served:
        page = visit(served)
        length = page.evaluate("history.length")
        page.get_by_role("button", name="한국어").click()
        with page.expect_request("**/scans") as scanned:
            scan(page, CARD)
        expect(page.locator(".card")).to_have_count(6)
        session = scanned.value.url.split("/")[-2]
        scan(page, PRODUCTS[1])
        expect(page.locator("#basket-items li")).to_have_count(1)
        page.locator(".open").first.click()
        expect(page.locator("#detail-reason")).not_to_be_empty()
        reason = page.locator("#detail-reason").inner_text()
        page.locator("#instead_of").click()
        expect(page.locator("#related li")).to_have_count(6)
        related = page.locator("#related .reason").all_inner_texts()
        seen = [*names(page), reason, *related, name_of(9), CARD, PRODUCTS[1], session]
        page.locator("#detail-close").click()
        with page.expect_response(lambda r: r.request.method == "DELETE") as ended:
            page.locator("#end").click()
        assert ended.value.status == 204
        expect(page.get_by_role("heading", name="Scan your card or a product")).to_be_focused()

        everywhere = page.content() + page.title() + heap_of(page) + page.evaluate(KEPT)
        assert "Scan your card" in everywhere
        assert [each for each in seen if each in everywhere] == []
        (cookie,) = page.context.cookies()
        facts = [cookie.get(each) for each in ("name", "httpOnly", "sameSite")]
        assert facts == ["c2rec", True, "Strict"]
        assert page.evaluate("document.cookie") == ""
        assert page.evaluate("history.length") == length
        page.go_back()
        assert [each for each in seen if each in page.content()] == []
        page.go_forward()
        expect(page.locator("#languages button")).to_have_count(3)
        assert [each for each in seen if each in page.content()] == []
        assert served.ask("POST", f"/api/sessions/{session}/recommendations", {})[0] == 404
        text = "\n".join(served.log)
    assert [each for each in seen if each in text] == []


KEPT = """async () => JSON.stringify([
  {...localStorage}, {...sessionStorage}, await caches.keys(), await indexedDB.databases(),
  (await navigator.serviceWorker.getRegistrations()).length,
  performance.getEntriesByType('navigation').map(e => e.name),
])"""
"""All that a page can store, and the address."""


def heap_of(page: Page) -> str:
    """The JavaScript memory of a page, after what is garbage was collected."""
    pieces: list[str] = []
    session = page.context.new_cdp_session(page)
    session.on("HeapProfiler.addHeapSnapshotChunk", lambda event: pieces.append(event["chunk"]))
    session.send("HeapProfiler.enable")
    for _ in range(3):
        session.send("HeapProfiler.collectGarbage")
    session.send("HeapProfiler.takeHeapSnapshot")
    session.detach()
    return "\n".join(json.loads("".join(pieces))["strings"])


def test_leaving_the_page_ends_the_session(visit: Visit, served: Served) -> None:
    page = visit(served)
    with page.expect_request("**/scans") as scanned:
        shop(page)
    session = scanned.value.url.split("/")[-2]
    page.goto("about:blank")
    left = 50
    while served.ask("POST", f"/api/sessions/{session}/extensions", {})[0] != 404 and left:
        page.wait_for_timeout(100)
        left -= 1
    assert left
    page.go_back()
    expect(page.get_by_role("heading", name="Scan your card or a product")).to_be_visible()
    assert page.locator(".card").count() == 0


# --- offline


def test_it_needs_no_network(visit: Visit, served: Served) -> None:
    """The browser itself says that it is offline; the page has its own server."""
    page = visit(served)
    page.evaluate(
        "Object.defineProperty(navigator, 'onLine', {get: () => false});"
        "window.dispatchEvent(new Event('offline'))"
    )
    shop(page)
    assert page.get_by_role("alert").is_hidden()
    expect(page.locator("#age")).to_contain_text("Based on purchases up to July 27, 2020")


def test_a_server_that_is_gone_is_told_plainly_and_the_page_comes_back(
    visit: Visit, folder: Path
) -> None:
    with serve_page(folder / "home") as served:
        page = visit(served, complains="Failed to load resource")
        shop(page)
    page.locator(".open").first.click()
    expect(page.get_by_role("alert")).to_contain_text("can't be reached", timeout=15_000)
    assert violations(page) == []
    with serve_page(folder / "home", port=served.port):
        expect(page.get_by_role("alert")).to_be_hidden(timeout=15_000)
        # the new server knows nothing of the shopper
        expect(page.get_by_role("heading", name="Scan your card or a product")).to_be_visible()
        expect(page.get_by_role("status")).to_have_text("The session has ended. Please scan again.")
        shop(page)


def test_a_session_ends_while_the_server_is_gone(visit: Visit, folder: Path) -> None:
    with serve_page(folder / "home") as served:
        page = visit(served, complains="Failed to load resource")
        shop(page)
    page.get_by_role("button", name="End and clear").click()
    expect(page.get_by_role("heading", name="Scan your card or a product")).to_be_visible()
    assert page.locator(".card").count() == 0


def test_without_a_release_the_page_waits_for_one(
    visit: Visit, browser: Browser, tmp_path: Path
) -> None:
    from c2rec.runtime.release.install import install

    with serve_page(tmp_path / "home") as served:
        page = browser.new_page()
        page.goto(f"{served.address}?token={TOKEN}")
        expect(page.get_by_role("alert")).to_contain_text("no recommendations here yet")
        assert violations(page) == []
        make_release(tmp_path / "bundle")
        install(tmp_path / "bundle", tmp_path / "home")
        expect(page.get_by_role("alert")).to_be_hidden(timeout=15_000)
        expect(page.locator("#age")).to_contain_text("Based on purchases")
        page.close()


def test_without_the_token_the_page_says_how_to_open_it(visit: Visit, served: Served) -> None:
    page = visit(served, token="wrong", complains="401")  # noqa: S106 - no secret
    expect(page.get_by_role("heading", name="This page is locked")).to_be_visible()
    assert violations(page) == []


# --- languages, sizes, and who sees or hears otherwise


@pytest.mark.parametrize(
    ("language", "heading", "reason"),
    [
        ("Deutsch", "Scannen Sie Ihre Karte oder einen Artikel", "im Laden beliebt"),
        ("한국어", "카드나 상품을 스캔해 주세요", "매장에서 인기 있는 상품이에요"),
    ],
)
def test_the_page_speaks_other_languages(
    visit: Visit, served: Served, language: str, heading: str, reason: str
) -> None:
    page = visit(served)
    page.locator("#browse").click()
    expect(page.locator(".card")).to_have_count(6)
    before = names(page)
    page.get_by_role("button", name=language).click()
    expect(page.locator(".reason").first).to_have_text(reason)
    assert names(page) == before
    assert page.locator("html").get_attribute("lang") in ("de", "ko")
    english = "(?i)not interested|end and clear|in stock|basket|contrast|based on"
    assert not re.search(english, page.locator("body").inner_text())
    page.locator("#end").click()
    page.get_by_role("button", name=language).click()
    expect(page.get_by_role("heading", name=heading)).to_be_visible()


def test_a_store_sets_the_language_that_a_shopper_finds(visit: Visit, folder: Path) -> None:
    with serve_page(folder / "home", settings=Settings(language="de", currency="CHF")) as served:
        page = visit(served)
        expect(page.get_by_role("heading", name="Scannen Sie Ihre Karte")).to_be_visible()


def states(page: Page) -> Iterator[str]:
    """Every state of the page, one after the other."""
    yield "start"
    scan(page, "nobody")
    expect(page.locator("#said")).not_to_be_empty()
    yield "unknown code"
    shop(page)
    yield "results"
    page.locator(".open").first.click()
    expect(page.locator("#detail")).to_be_visible()
    page.locator("#detail summary").click()
    yield "detail"
    page.locator("#goes_with").click()
    expect(page.locator("#related li")).to_have_count(6)
    yield "what goes with it"
    page.locator("#detail-close").click()
    scan(page, SOLD_OUT)
    expect(page.locator("#related li")).to_have_count(6)
    yield "sold out"
    page.locator("#detail-close").click()
    page.clock.run_for(61_000)
    expect(page.locator("#idle")).to_be_visible()
    yield "idle"
    page.locator("#idle-end").click()
    expect(page.locator("#start-title")).to_be_focused()
    yield "cleared"


@pytest.mark.parametrize("look", ["plain", "contrast", "larger"])
@pytest.mark.parametrize("language", ["English", "한국어"])
def test_axe_finds_nothing_in_any_state(
    visit: Visit, served: Served, look: str, language: str
) -> None:
    page = visit(served, clock=True)

    def choose() -> None:
        page.get_by_role("button", name=language).click()
        if look == "contrast":
            page.locator("#contrast").click()
        elif look == "larger":
            page.locator("#size").click()
            page.locator("#size").click()

    choose()
    for state in states(page):
        assert violations(page) == [], state
        if state == "cleared":
            assert page.locator("html").get_attribute("class") == ""


@pytest.mark.parametrize(("width", "presses"), [(1080, 0), (1080, 2), (600, 1), (360, 2)])
def test_targets_are_large_and_nothing_sticks_out(
    visit: Visit, served: Served, width: int, presses: int
) -> None:
    page = visit(served, clock=True, width=width)
    for _ in range(presses):
        page.locator("#size").click()
    for state in states(page):
        assert page.evaluate(SMALL) == [], state
        assert page.evaluate("document.documentElement.scrollWidth") <= width, state
        assert page.evaluate(CLIPPED) == [], state


SMALL = """() => [...document.querySelectorAll('button, input, summary')]
  .filter(e => e.checkVisibility())
  .map(e => [e.textContent || e.id, e.getBoundingClientRect()])
  .filter(([, box]) => box.width < 48 || box.height < 48)
  .map(([name, box]) => `${name}: ${box.width} × ${box.height}`)"""
"""Targets that are hard to hit."""

CLIPPED = """() => [...document.querySelectorAll('button, h1, h2, p, span, dt, dd')]
  .filter(e => e.checkVisibility() && e.scrollWidth > e.clientWidth + 1
    && getComputedStyle(e).display !== 'inline')
  .map(e => e.textContent)"""
"""Words that don't fit their box."""


def test_a_short_name_is_no_small_target_and_a_long_one_is_not_cut(
    visit: Visit, tmp_path: Path
) -> None:
    from c2rec.runtime.release.install import install

    long = "Damenwinterstiefelettenschnürsenkelverlängerungsset-Sonderedition, dunkelanthrazitgrau"
    release = make_release(tmp_path / "bundle")
    rename(release, [f"{long} {row}" if row % 2 else f"{row}" for row in range(40)])
    install(release.folder, tmp_path / "home")
    with serve_page(tmp_path / "home") as served:
        page = visit(served, width=360)
        shop(page)
        scan(page, "i000004")
        expect(page.locator("#basket-items li")).to_have_count(2)
        assert page.evaluate(SMALL) == []
        assert page.evaluate(CLIPPED) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_main_actions_are_low_and_always_in_reach(visit: Visit, served: Served) -> None:
    page = visit(served)
    shop(page)
    box = page.get_by_role("button", name="End and clear").bounding_box()
    assert box is not None
    assert 800 < box["y"] < 1000


def test_nothing_moves(visit: Visit, served: Served) -> None:
    page = visit(served)
    shop(page)
    page.locator(".open").first.click()
    assert page.evaluate("document.getAnimations().length") == 0
    moving = """() => [...document.querySelectorAll('*')].filter(e => {
      const style = getComputedStyle(e);
      return style.animationName !== 'none' || style.transitionDuration !== '0s';
    }).length"""
    assert page.evaluate(moving) == 0


def test_all_of_it_works_by_keyboard(visit: Visit, served: Served) -> None:
    page = visit(served, clock=True)

    def press(*keys: str) -> None:
        for key in keys:
            page.keyboard.press(key)

    page.get_by_label("Or type the code").focus()
    page.keyboard.type(CARD)
    press("Enter")
    expect(page.get_by_role("heading", name="For you")).to_be_focused()
    press("Tab", "Enter")
    expect(page.locator("#detail-title")).to_be_focused()
    press("Tab", "Tab", "Enter")
    expect(page.locator("#related h3").first).to_be_focused()
    press("Tab", "Enter")  # another item, with its own detail
    expect(page.locator("#detail-title")).to_be_focused()
    expect(page.locator("#related")).to_be_empty()
    press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    expect(page.locator(".open").first).to_be_focused()
    press("Tab", "Space")
    expect(page.get_by_role("status")).to_contain_text("Replaced by")


def test_every_language_says_everything(visit: Visit, served: Served) -> None:
    page = visit(served)
    words = page.evaluate("import('/page/words.js').then(module => module.WORDS)")
    assert list(words) == list(LANGUAGES)
    for language in LANGUAGES:
        assert shape(words[language]) == shape(words["en"]), language


def shape(words: object) -> object:
    """Keys, and the places to be filled in."""
    if isinstance(words, dict):
        return {key: shape(value) for key, value in words.items()}
    if isinstance(words, list):
        return [shape(each) for each in words]
    return sorted(re.findall(r"\{\w+\}", str(words)))


def test_a_busy_server_is_told_of(visit: Visit, served: Served) -> None:
    """All sessions are taken: the page says so, and works when one is free."""
    from c2rec.store_kiosk.sessions import MOST

    page = visit(served, complains="503")
    taken = []
    for _ in range(MOST):
        status, _, content = served.ask("POST", "/api/sessions", {})
        if status == 503:
            break
        taken.append(json.loads(content)["session"])
    scan(page, CARD)
    expect(page.get_by_role("status")).to_have_text("A lot is going on. Please try again.")
    for session in taken:
        served.json("DELETE", f"/api/sessions/{session}")
    shop(page)
