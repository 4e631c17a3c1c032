"""What a shopper does while an answer is still on its way: Chromium, and answers held back."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import APIResponse, Browser, Page, Route, expect

from tests.browsers import chromium
from tests.kiosk_page import CARD, PRODUCTS, TOKEN, Served, make_home, name_of, serve_page

OTHER_CARD = "c000005"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_page(make_home(tmp_path_factory.mktemp("turns"))) as served:
        yield served


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1080, "height": 1000})
    page = context.new_page()
    page.goto(f"{served.address}?token={TOKEN}")
    expect(page.locator("#age")).not_to_be_empty()
    yield page
    context.close()


class Held:
    """Answers of one kind that the server has given, and the page doesn't have yet."""

    def __init__(self, page: Page, address: str) -> None:
        self._page = page
        self._answers: list[tuple[Route, APIResponse]] = []
        self._open = False
        page.route(address, lambda route: self._take(route))  # it counts a function's parameters

    def _take(self, route: Route) -> None:
        if self._open:
            route.continue_()
        else:
            self._answers.append((route, route.fetch()))

    def wait(self) -> None:
        """Until one is held."""
        while not self._answers:
            self._page.wait_for_timeout(20)

    def let_go(self) -> None:
        """Now the page has them, and those that follow at once."""
        self._open = True
        for route, response in self._answers:
            route.fulfill(response=response)


def scan(page: Page, code: str) -> None:
    page.keyboard.type(code)
    page.keyboard.press("Enter")


def settled(page: Page) -> None:
    """Nothing is asked any more, and what was answered is drawn."""
    page.wait_for_timeout(600)
    page.wait_for_load_state("networkidle")


def test_a_detail_that_one_card_asked_for_is_not_shown_to_the_next(page: Page) -> None:
    scan(page, CARD)
    expect(page.locator(".card")).to_have_count(6)
    held = Held(page, "**/details")
    page.locator(".open").first.click()
    held.wait()
    scan(page, OTHER_CARD)
    page.wait_for_timeout(400)
    held.let_go()
    settled(page)
    expect(page.get_by_role("status")).to_contain_text("Your card was read")
    expect(page.locator("#detail")).to_be_hidden()


def test_the_next_card_finds_nothing_of_a_detail_in_the_page(page: Page) -> None:
    scan(page, CARD)
    expect(page.locator(".card")).to_have_count(6)
    page.locator(".open").first.click()
    expect(page.locator("#detail-reason")).not_to_be_empty()
    page.locator("#goes_with").click()
    expect(page.locator("#related li")).to_have_count(6)
    with page.expect_response("**/recommendations"):
        scan(page, OTHER_CARD)
    expect(page.get_by_role("status")).to_contain_text("Your card was read")
    said = [page.locator(f"#detail-{each}").text_content() for each in ("title", "reason", "why")]
    assert said == ["", "", ""]
    assert page.locator("#related li, #detail-picture *, #detail-facts *").count() == 0


def test_a_scan_that_waits_when_all_is_cleared_is_never_looked_up(page: Page) -> None:
    scan(page, PRODUCTS[0])
    expect(page.locator("#basket-items li")).to_have_count(1)
    held = Held(page, "**/scans")
    scan(page, PRODUCTS[1])
    held.wait()
    scan(page, CARD)
    page.wait_for_timeout(100)
    page.get_by_role("button", name="End and clear").click()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(f"{request.method} {request.url}"))
    held.let_go()
    settled(page)
    assert [each for each in asked if each.startswith("POST")] == []
    expect(page.get_by_role("heading", name="Scan your card or a product")).to_be_visible()
    assert page.locator(".card").count() == 0


def test_a_shopper_in_a_hurry_has_one_session(page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    held = Held(page, "**/api/sessions")
    page.locator("#browse").click()
    held.wait()
    scan(page, PRODUCTS[0])
    page.wait_for_timeout(100)
    held.let_go()
    expect(page.locator("#basket-items li")).to_have_text(f"{name_of(4)}×")
    expect(page.locator(".card")).to_have_count(6)
    assert len([each for each in asked if each.endswith("/api/sessions")]) == 1


def test_an_item_that_is_dismissed_twice_is_replaced_once(page: Page) -> None:
    scan(page, CARD)
    expect(page.locator(".card")).to_have_count(6)
    page.locator(".dismiss").nth(1).dblclick()
    settled(page)
    expect(page.get_by_role("status")).to_contain_text("Replaced by ")
    expect(page.locator(".card")).to_have_count(6)


def test_a_code_too_long_for_the_field_is_refused_and_not_cut(page: Page) -> None:
    page.get_by_label("Or type the code").focus()
    scan(page, "7" * 140)
    expect(page.get_by_role("status")).to_contain_text("it is too long")


@pytest.mark.parametrize(("width", "height"), [(1080, 1920), (1366, 768)])
@pytest.mark.parametrize("presses", [0, 1, 2])
def test_the_way_out_is_in_sight_however_large_the_text(
    page: Page, width: int, height: int, presses: int
) -> None:
    """Of the dialog always, of the session where the screen is as high as a kiosk's."""
    page.set_viewport_size({"width": width, "height": height})
    for _ in range(presses):
        page.locator("#size").click()
    scan(page, CARD)
    expect(page.locator(".card")).to_have_count(6)
    if height > width:
        expect(page.locator("#end")).to_be_in_viewport(ratio=1)
    page.locator(".open").first.click()
    page.locator("#goes_with").click()
    expect(page.locator("#related li")).to_have_count(6)
    expect(page.locator("#detail-close")).to_be_in_viewport(ratio=1)
    page.locator("#related button").last.focus()
    obscured = """() => {
      const box = document.activeElement.getBoundingClientRect();
      const top = document.elementFromPoint(box.x + box.width / 2, box.bottom - 4);
      return !document.activeElement.contains(top);
    }"""
    assert not page.evaluate(obscured)


def test_a_release_that_can_be_read_again_is_no_trouble_any_more(page: Page) -> None:
    """A question comes in the moment when a server that starts anew can't read it yet."""
    problem = json.dumps({"type": "urn:c2rec:problem:no-release"})
    page.route("**/scans", lambda route: route.fulfill(status=503, body=problem), times=1)
    scan(page, CARD)
    expect(page.get_by_role("alert")).to_contain_text("no recommendations here yet")
    expect(page.get_by_role("alert")).to_be_hidden(timeout=15_000)
    scan(page, CARD)
    expect(page.locator(".card")).to_have_count(6)


@pytest.mark.parametrize("key", ["Control+j", "Control+]"])
def test_a_scan_into_the_field_with_control_characters_is_refused(page: Page, key: str) -> None:
    field = page.get_by_label("Or type the code")
    field.focus()
    page.keyboard.type("c0000")
    page.keyboard.press(key)
    scan(page, "03")
    expect(page.get_by_role("status")).to_contain_text("The code could not be read")
    expect(page.locator(".card")).to_have_count(0)
    field.focus()
    page.keyboard.type("nobody")
    page.keyboard.press("Control+a")  # a person's key
    scan(page, CARD)
    expect(page.locator(".card")).to_have_count(6)
