"""The gallery of an account with 20,000 pictures: few elements, places that stay, and work on all of them."""

import re

import pytest
from playwright.sync_api import expect

from tests.archives import multiply
from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, Server
from tests.signed_in import by_key

pytestmark = pytest.mark.browser

PICTURES = 20_000
SHAPES = ((60, 40), (40, 60), (90, 40), (50, 50), (64, 36), (30, 80))
MAX_ELEMENTS = 900


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    found = Server(tmp_path_factory.mktemp("large") / "data", UNLIMITED)
    try:
        found.start()
        found.key = found.new_key("ann@example.org")
        for shape in SHAPES:
            found.must_upload(encoded(make_image("RGB", shape), "PNG"), "real.png", key=found.key)
        found.stop()
        multiply(found.data, PICTURES - len(SHAPES))
        yield found.start()
    finally:
        found.close()


@pytest.fixture
def page(visit, server):
    page = visit()
    name, _, value = by_key(server, server.key).cookie.partition("=")
    page.context.add_cookies([{"name": name, "value": value, "url": server.base}])
    page.goto(f"{server.base}/dashboard")
    expect(page.locator("#status")).to_have_text("20,000 pictures")
    return page


def elements(page):
    return page.evaluate("document.querySelectorAll('*').length")


def deep(page, pictures=1_500):
    """Scroll until so many pictures have been loaded."""
    page.evaluate(
        """async (height) => {
            const grid = document.getElementById("grid");
            while (grid.offsetHeight < height) {
                scrollTo(0, document.body.scrollHeight);
                await new Promise((resolve) => setTimeout(resolve, 30));
            }
        }""",
        pictures * 40,
    )


def in_window(page):
    """Return the first picture that is wholly in the window, and where."""
    return page.evaluate(
        """(() => {
            for (const link of document.querySelectorAll(".live .tile > a")) {
                const { top } = link.getBoundingClientRect();
                if (top >= 0) return [link.pathname.slice(1), Math.round(top)];
            }
        })()"""
    )


def stayed(page, before):
    """Wait until a picture is where it was, to a pixel."""
    for _ in range(100):
        now = in_window(page)
        if now[0] == before[0] and abs(now[1] - before[1]) <= 1:
            return
        page.wait_for_timeout(50)
    assert in_window(page) == before


def test_elements_are_few_wherever_one_is(page):
    most = elements(page)
    for _ in range(40):
        page.mouse.wheel(0, 2_500)
        page.wait_for_timeout(40)
        most = max(most, elements(page))
    assert most < MAX_ELEMENTS
    assert page.evaluate("scrollY") > 50_000
    order = page.locator(".live .row").evaluate_all("rows => rows.map((row) => parseFloat(row.style.top))")
    assert order == sorted(order)  # screen readers and the Tab key go by the document's order
    page.wait_for_load_state("networkidle")
    assert page.evaluate("[...document.querySelectorAll('.live img')].every((img) => img.naturalWidth > 0)")
    expect(page.locator(".where")).to_have_text(re.compile(r"[A-Z][a-z]+ 20\d\d"))


def test_every_picture_comes_once_and_in_order(page):
    seen = page.evaluate(
        """async () => {
            const seen = new Set();
            const names = [];
            for (let round = 0; round < 150; round++) {
                for (const link of document.querySelectorAll(".live .tile > a")) {
                    if (!seen.has(link.href)) names.push(link.dataset.name);
                    seen.add(link.href);
                }
                scrollBy(0, 500);
                await new Promise((resolve) => setTimeout(resolve, 25));
            }
            return names;
        }"""
    )
    numbers = [int(re.search(r"(\d+)\.", name)[1]) for name in seen if name != "real.png"]
    assert len(numbers) > 1_000
    assert numbers == [*range(1, len(numbers) + 1)]


def test_what_comes_and_goes_moves_nothing(page, server):
    deep(page)
    page.evaluate("scrollTo(0, 30000)")
    page.wait_for_timeout(400)
    before = in_window(page)
    new = server.must_upload(encoded(make_image("RGB", (33, 44)), "PNG"), "new.png", key=server.key)
    expect(page.locator("#status")).to_have_text("20,001 pictures")
    stayed(page, before)
    page.evaluate("scrollTo(0, 0)")
    expect(page.locator(".live .tile > a").first).to_have_attribute("data-name", "new.png")
    page.evaluate("scrollTo(0, 30000)")
    page.wait_for_timeout(300)
    before = in_window(page)
    server.api("DELETE", f"/v1/media/{new['id']}", key=server.key)
    expect(page.locator("#status")).to_have_text("20,000 pictures")
    stayed(page, before)
    page.set_viewport_size({"width": 1200, "height": 900})
    page.wait_for_timeout(300)
    expect(page.locator(f'.tile > a[href$="{before[0]}"]')).to_be_in_viewport()


def test_the_way_back_leads_to_the_place(page):
    deep(page)
    page.evaluate("scrollTo(0, 40000)")
    page.wait_for_timeout(400)
    before = in_window(page)
    page.locator(f'.tile > a[href$="{before[0]}"]').click()
    page.wait_for_url(re.compile("/[0-9A-Za-z]{12}$"))
    page.go_back()
    expect(page.locator(f'.tile > a[href$="{before[0]}"]')).to_be_visible()
    stayed(page, before)
    # A filter and back, without leaving the page.
    page.evaluate("document.querySelector('[data-span=today]').click()")
    expect(page.locator("#status")).to_have_text(re.compile(r"^\d+ pictures? found"))
    page.go_back()
    expect(page.locator(f'.tile > a[href$="{before[0]}"]')).to_be_visible()
    stayed(page, before)


def test_thumbnails_that_fly_by_are_not_asked_for(page):
    deep(page, 3_000)
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/t/" in request.url else None)
    page.evaluate(
        """async () => {
            for (let step = 0; step < 60; step++) {
                scrollTo(0, step * 1900);
                await new Promise(requestAnimationFrame);
            }
        }"""
    )
    page.wait_for_timeout(500)
    assert 0 < len(asked) < 400  # of some 3,000
    assert page.evaluate("[...document.querySelectorAll('.live img')].every((img) => img.hasAttribute('src'))")


def test_all_of_them_are_chosen_and_changed(page, server):
    page.get_by_label("Search names").fill("harbour")
    expect(page.locator(".live .tile > a").first).to_have_attribute("data-name", re.compile("harbour"))
    page.locator(".live .tile").first.hover()
    page.locator(".pick").first.click()
    page.get_by_role("button", name="Select all found").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    count = int(page.locator(".bar strong").inner_text().split()[0].replace(",", ""))
    assert 1_400 < count < 2_000
    assert elements(page) < MAX_ELEMENTS
    assert page.locator("#status").inner_text() == f"{count:,} pictures found"
    page.get_by_role("toolbar").get_by_role("button", name="Tags").click()
    page.get_by_role("dialog").get_by_label("Tags, with").fill("port")
    page.get_by_role("dialog").get_by_role("button", name="Apply").click()
    expect(page.get_by_text(f"{count:,} pictures tagged")).to_be_visible(timeout=60_000)
    tags = server.api("GET", "/v1/tags", key=server.key).json()["data"]
    assert [(tag["name"], tag["count"]) for tag in tags] == [("port", count)]
    assert page.locator(".bar strong").inner_text() == f"{count:,} selected"


def test_a_long_work_can_be_stopped(page, server):
    page.get_by_label("Search names").fill("garden")
    expect(page.locator(".live .tile > a").first).to_have_attribute("data-name", re.compile("garden"))
    page.locator(".live .tile").first.hover()
    page.locator(".pick").first.click()
    page.get_by_role("button", name="Select all found").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    held = []
    page.route("**/v1/media?ids=*", lambda route: route.continue_() if len(held) == 2 else held.append(route))
    page.get_by_role("toolbar").get_by_role("button", name="Move").click()
    page.get_by_role("dialog").get_by_label("To the namespace").fill("plants")
    page.get_by_role("dialog").get_by_role("button", name="Move").click()
    stop = page.get_by_role("dialog", name="Moving").get_by_role("button", name="Stop")
    stop.click()
    held[0].continue_()
    expect(page.get_by_role("dialog")).to_contain_text("100 pictures moved.")
    expect(page.get_by_role("dialog")).to_contain_text("because it was stopped")
    page.get_by_role("button", name="Close").click()
    page.unroute_all()
    [space] = server.api("GET", "/v1/namespaces", key=server.key).json()["data"]
    assert (space["name"], space["count"]) == ("plants", 100)
    expect(page.locator(".bar strong")).not_to_have_text("100 selected")
