"""The gallery in a real browser: look, search, filter, choose, change, delete, download; live, on phones, without script."""

import io
import re
import zipfile
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import expect

from tests.archives import backdate
from tests.axe import serious
from tests.galleries import PICTURES, SIZES, chosen, fill, pick, shows, tiles, with_times
from tests.pictures import encoded, film, make_image
from tests.servers import UNLIMITED, Server, multipart
from tests.signed_in import by_key

pytestmark = pytest.mark.browser
AGES_DAYS = {"today.png": 0, "days ago.png": 3, "two weeks ago.png": 14, "months ago.png": 100}
BERLIN = ZoneInfo("Europe/Berlin")
NUMBERS = iter(range(1_000))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    found = Server(
        tmp_path_factory.mktemp("gallery") / "data",
        {**UNLIMITED, "IMGPRO_PLANS_FREE_UPLOADS": "unlimited", "TZ": "UTC"},
    )
    try:
        found.start()
        found.dated = found.new_key("dated@example.org")
        for name in AGES_DAYS:
            found.must_upload(PICTURES[0], name, key=found.dated)
        found.stop()
        backdate(found.data, AGES_DAYS)
        yield found.start()
    finally:
        found.close()


@pytest.fixture
def key(server):
    return server.new_key(f"ann{next(NUMBERS)}@example.org")


# Looking


def test_an_empty_account_is_shown_the_way(gallery, server, key):
    page = gallery()
    expect(page.get_by_text("Nothing here yet")).to_be_visible()
    expect(page.get_by_role("link", name="Upload a picture")).to_be_visible()
    expect(page.get_by_role("link", name="Connect an app")).to_have_attribute("href", re.compile("dashboard/connect$"))
    expect(page.get_by_role("search")).to_be_hidden()
    fill(server, key, ["first.png"])
    shows(page, "first.png")
    expect(page.get_by_text("Nothing here yet")).to_be_hidden()
    expect(page.get_by_role("search")).to_be_visible()


def test_pictures_keep_their_shape_and_rows_fill_the_width(gallery, server, key):
    fill(server, key, [f"{n}.png" for n in range(24)])
    page = gallery()
    expect(tiles(page)).to_have_count(24)
    expect(page.get_by_role("heading", name="Today")).to_be_visible()
    rows = page.evaluate(
        """[...document.querySelectorAll(".row")].map((row) => [...row.querySelectorAll("img")].map((img) => {
            const box = img.getBoundingClientRect();
            return [box.left, box.right, box.width / box.height];
        }))"""
    )
    page.wait_for_load_state("networkidle")
    grid = page.locator("#grid").bounding_box()
    for row in rows[:-1]:
        assert row[-1][1] == pytest.approx(grid["x"] + grid["width"], abs=1)
    shown = sorted({round(ratio, 2) for row in rows for _, _, ratio in row})
    assert shown == pytest.approx(sorted(w / h for w, h in SIZES), abs=0.02)
    assert page.evaluate("[...document.querySelectorAll('.live img')].every((img) => img.naturalWidth > 0)")


def test_badges_say_what_is_special(gallery, server, key):
    server.must_upload(PICTURES[0], "secret.png", key=key, public="false", ttl="2d")
    server.must_upload(film("GIF", 3, (60, 40)), "film.gif", key=key)
    page = gallery()
    shows(page, "film.gif", "secret.png")
    expect(page.locator(".badges")).to_have_text(["Animation", "Private · Ends in 2 d"])
    expect(page.get_by_role("link", name=re.compile("secret.png, .*, Private, Ends in 2 d"))).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert page.evaluate("[...document.querySelectorAll('.live img')].every((img) => img.naturalWidth > 0)")


def test_a_picture_opens_on_its_page_and_back_leads_to_the_same_list(gallery, server, key):
    fill(server, key, ["a cat.png", "a dog.png"])
    page = gallery("?q=cat")
    shows(page, "a cat.png")
    page.get_by_role("link", name="a cat.png").click()
    page.wait_for_url(re.compile("/[0-9A-Za-z]{12}$"))
    page.go_back()
    shows(page, "a cat.png")
    expect(page.get_by_label("Search names")).to_have_value("cat")


# Searching


def test_search_as_you_type(gallery, server, key):
    fill(server, key, ["cat one.png", "cat two.png", "dog.png"])
    page = gallery()
    shows(page, "dog.png", "cat two.png", "cat one.png")
    page.get_by_label("Search names").press_sequentially("cat", delay=20)
    shows(page, "cat two.png", "cat one.png")
    expect(page.get_by_role("status").first).to_have_text("2 pictures found")
    expect(page).to_have_url(re.compile(r"\?q=cat$"))
    page.get_by_label("Search names").press_sequentially(" t", delay=20)
    page.wait_for_timeout(500)
    shows(page, "cat two.png", "cat one.png")  # one letter is a word that has only begun
    page.get_by_label("Search names").press_sequentially("wo", delay=20)
    shows(page, "cat two.png")
    page.go_back()  # one step for one search, however many letters it had
    shows(page, "dog.png", "cat two.png", "cat one.png")
    page.go_forward()
    shows(page, "cat two.png")


def test_nothing_found_offers_a_way_out(gallery, server, key):
    fill(server, key, ["dog.png"], namespace="pets")
    page = gallery("?q=zebra&namespace=pets&date=last-week")
    expect(page.get_by_text("No picture found: “zebra”, in pets, last week.")).to_be_visible()
    page.get_by_role("button", name="Clear filters").click()
    shows(page, "dog.png")
    expect(page).to_have_url(re.compile(r"/dashboard\?$"))


def test_an_answer_that_comes_late_is_not_shown(gallery, server, key):
    fill(server, key, ["cat.png", "dog.png"])
    page = gallery()
    shows(page, "dog.png", "cat.png")
    held = []
    page.route("**/v1/media?*q=d*", lambda route: held.append(route))
    search = page.get_by_label("Search names")
    search.fill("dog")
    while not held:
        page.wait_for_timeout(20)
    search.fill("cat")
    shows(page, "cat.png")
    for route in held:
        route.continue_()
    page.wait_for_timeout(300)
    shows(page, "cat.png")


def test_the_field_says_what_is_looked_for(gallery, server, key):
    fill(server, key, ["cat one.png", "cat two.png", "dog.png"])
    page = gallery()
    shows(page, "dog.png", "cat two.png", "cat one.png")
    search = page.get_by_label("Search names")
    search.fill("cat")
    shows(page, "cat two.png", "cat one.png")
    page.go_back()
    shows(page, "dog.png", "cat two.png", "cat one.png")
    expect(search).to_have_value("")
    page.go_forward()
    expect(search).to_have_value("cat")
    # Whoever goes back while typing does not look for it after all.
    search.press_sequentially(" two")
    page.evaluate("history.back()")
    shows(page, "dog.png", "cat two.png", "cat one.png")
    page.wait_for_timeout(400)
    expect(search).to_have_value("")
    shows(page, "dog.png", "cat two.png", "cat one.png")
    # What is typed by then goes with another filter.
    page.evaluate(
        """() => {
            const field = document.getElementById("q");
            field.value = "one";
            field.dispatchEvent(new Event("input"));
            document.querySelector('[data-span="7days"]').click();
        }"""
    )
    shows(page, "cat one.png")
    expect(page).to_have_url(re.compile(r"\?q=one&date=7days$"))


def test_a_search_that_fails_can_be_tried_again(gallery, server, key):
    fill(server, key, ["cat.png"])
    page = gallery(expected=[503])
    shows(page, "cat.png")
    answer = {"status": 503, "json": {"error": "busy", "message": "The server is busy.", "action": {"type": "wait"}}}
    page.route("**/v1/media?*", lambda route: route.fulfill(**answer))
    page.get_by_label("Search names").fill("cat")
    expect(page.get_by_text("The server is busy.")).to_be_visible()
    page.unroute_all()
    page.get_by_role("button", name="Try again").click()
    shows(page, "cat.png")


def test_a_page_that_fails_deep_down_says_so_where_one_is(gallery, server, key):
    fill(server, key, [f"{n}.png" for n in range(130)])
    page = gallery(expected=[503])
    expect(tiles(page).first).to_be_visible()
    answer = {"status": 503, "json": {"error": "busy", "message": "The server is busy.", "action": {"type": "wait"}}}
    page.route("**/v1/media?*cursor=*", lambda route: route.fulfill(**answer))
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(page.get_by_text("The server is busy.")).to_be_in_viewport()
    page.unroute_all()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#status")).to_have_text("130 pictures")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(page.get_by_role("link", name="0.png", exact=False).last).to_be_visible()


def test_who_is_signed_out_elsewhere_is_led_to_the_way_in_and_back_to_the_search(gallery, server, key):
    fill(server, key, ["cat.png", "café & co.png"])
    page = gallery(expected=[401])
    shows(page, "café & co.png", "cat.png")
    page.context.clear_cookies()
    page.get_by_label("Search names").fill("café & co")
    expect(page.get_by_role("heading", name="Sign in").first).to_be_visible()
    page.get_by_label("Your API key").fill(key)
    page.get_by_role("button", name="Sign in", exact=True).click()
    shows(page, "café & co.png")
    expect(page.get_by_label("Search names")).to_have_value("café & co")


@pytest.mark.parametrize(
    ("link", "names"),
    [
        ("Today", ["today.png"]),
        ("Last 7 days", ["today.png", "days ago.png"]),
        ("Any time", [*AGES_DAYS]),
    ],
)
def test_by_days(gallery, server, link, names):
    page = gallery("?type=png", key=server.dated)
    page.get_by_role("navigation", name="When").get_by_role("link", name=link).click()
    shows(page, *names)


@pytest.mark.parametrize(
    ("now", "monday", "hours"),
    [
        ((2026, 3, 15, 23, 59), (2026, 3, 2), 168),  # Sunday
        ((2026, 3, 16, 0, 0), (2026, 3, 9), 168),  # Monday
        ((2026, 3, 30, 0, 0), (2026, 3, 23), 167),  # the clock was put forward on Sunday
        ((2026, 11, 1, 12, 0), (2026, 10, 19), 169),  # the clock was put back on the Sunday before
    ],
)
def test_last_week_is_from_monday_to_sunday(gallery, server, now, monday, hours):
    page = gallery(
        key=server.dated,
        timezone_id=BERLIN.key,
        prepare=lambda page: page.clock.set_fixed_time(datetime(*now, tzinfo=BERLIN)),
    )
    since, until = page.evaluate(
        """async () => {
            const { bounds, read } = await import(new URL("static/query.js", document.baseURI.replace("dashboard", "")));
            return bounds(read("?date=last-week"));
        }"""
    )
    assert since == datetime(*monday, tzinfo=BERLIN).timestamp()
    assert until - since == hours * 3_600


@pytest.mark.parametrize(
    ("now", "before"),
    [
        # The day before had 23 hours, and half an hour before it was the day before that.
        (datetime(2026, 3, 30, 9, tzinfo=BERLIN), datetime(2026, 3, 28, 23, 30, tzinfo=BERLIN)),
        # The day before had 25 hours, and began half an hour before this.
        (datetime(2026, 10, 26, 9, tzinfo=BERLIN), datetime(2026, 10, 25, 0, 30, tzinfo=BERLIN)),
    ],
)
def test_yesterday_is_the_day_before_however_long_it_was(gallery, server, key, now, before):
    fill(server, key, ["before.png", "today.png"])

    def prepare(page):
        page.clock.set_fixed_time(now)
        with_times(page, now, before)

    page = gallery(timezone_id=BERLIN.key, prepare=prepare)
    shows(page, "today.png", "before.png")
    second = "Yesterday" if (now.date() - before.date()).days == 1 else f"{before:%A}"
    expect(page.locator(".row h2")).to_have_text(["Today", second])


def test_at_midnight_today_becomes_yesterday(gallery, server, key):
    now = datetime(2026, 6, 10, 23, 59, tzinfo=BERLIN)
    fill(server, key, ["old.png", "evening.png"])

    def prepare(page):
        page.clock.install(time=now)
        with_times(page, now, now.replace(day=4))

    page = gallery(timezone_id=BERLIN.key, prepare=prepare)
    expect(page.locator(".row h2")).to_have_text(["Today", "Thursday"])
    page.clock.fast_forward(100_000)
    expect(page.locator(".row h2")).to_have_text(["Yesterday", "June 2026"])


def test_from_to_and_going_to_a_date(gallery, server):
    page = gallery(key=server.dated)
    expect(tiles(page)).to_have_count(4)
    day = page.evaluate("new Date(Date.now() - 14 * 86400000).toISOString().slice(0, 10)")
    page.get_by_label("From", exact=True).fill(day)
    page.get_by_label("To", exact=True).fill(day)
    shows(page, "two weeks ago.png")
    page.get_by_role("link", name="Clear all").click()
    page.get_by_label("Go to date").fill(day)
    shows(page, "two weeks ago.png", "months ago.png")
    page.reload()
    shows(page, "two weeks ago.png", "months ago.png")
    expect(page.get_by_label("Go to date")).to_have_value(day)
    page.get_by_role("button", name=re.compile("Remove: .* and before")).click()
    expect(tiles(page)).to_have_count(4)


def test_namespaces_tags_and_types(gallery, server, key):
    server.must_upload(PICTURES[0], "one.png", key=key, namespace="trip", tags="sea,sun")
    server.must_upload(PICTURES[1], "two.png", key=key, namespace="trip", tags="sea")
    server.must_upload(encoded(make_image("RGB", (50, 40)), "JPEG"), "three.jpg", key=key, tags="sun")
    page = gallery()
    shows(page, "three.jpg", "two.png", "one.png")
    spaces, tags = page.get_by_role("list", name="Namespaces"), page.get_by_role("list", name="Tags")
    expect(spaces.get_by_role("link")).to_have_text(["trip 2"])
    expect(tags.get_by_role("link")).to_have_text(["sea 2", "sun 2"])
    spaces.get_by_role("link").click()
    shows(page, "two.png", "one.png")
    tags.get_by_role("link", name="sun").click()
    shows(page, "one.png")
    page.get_by_role("button", name="Remove: in trip").click()
    shows(page, "three.jpg", "one.png")
    tags.get_by_role("link", name="sea").click()
    shows(page, "three.jpg", "two.png", "one.png")
    page.get_by_role("radio", name="with all").check()
    shows(page, "one.png")
    expect(page).to_have_url(re.compile(r"tags=sun%2Csea&tag_mode=all"))
    page.reload()
    shows(page, "one.png")
    page.get_by_role("link", name="Clear all").click()
    page.get_by_label("Type").select_option("jpeg")
    shows(page, "three.jpg")
    for expected in (["three.jpg", "two.png", "one.png"], ["one.png"], ["three.jpg", "two.png", "one.png"]):
        page.go_back()
        shows(page, *expected)


def test_many_tags_can_be_searched(gallery, server, key):
    for first in range(0, 20, 10):
        server.must_upload(PICTURES[0], key=key, tags=",".join(f"t{n}" for n in range(first, first + 10)))
    page = gallery()
    page.get_by_label("Find tags").fill("t1")
    expect(page.get_by_role("list", name="Tags").get_by_role("link")).to_have_count(11)
    page.get_by_role("list", name="Tags").get_by_role("link", name="t17").click()
    expect(tiles(page)).to_have_count(1)


def test_the_last_tag_leaves_the_side(gallery, server, key):
    image = server.must_upload(PICTURES[0], "one.png", key=key, tags="sea", namespace="trip")
    page = gallery()
    tags, spaces = page.get_by_role("list", name="Tags"), page.get_by_role("list", name="Namespaces")
    expect(tags.get_by_role("link")).to_have_text(["sea 1"])
    server.api("PATCH", f"/v1/media/{image['id']}", {"tags": "", "namespace": ""}, key=key)
    expect(tags.get_by_role("listitem")).to_have_text(["None yet"])
    expect(spaces.get_by_role("listitem")).to_have_text(["None yet"])


# Choosing


@pytest.fixture
def six(server, key):
    return fill(server, key, [f"{n}.png" for n in range(6)])


def test_choosing_with_the_mouse(gallery, six):
    page = gallery()
    shows(page, *(f"{n}.png" for n in reversed(range(6))))
    pick(page, "5.png")
    expect(page.get_by_text("1 selected")).to_be_visible()
    pick(page, "2.png", modifiers=["Shift"])
    assert chosen(page) == ["5.png", "4.png", "3.png", "2.png"]
    page.get_by_role("link", name="3.png").click()  # with something chosen, a click chooses
    assert chosen(page) == ["5.png", "4.png", "2.png"]
    assert page.url.endswith("/dashboard")
    page.keyboard.press("Escape")
    assert chosen(page) == []
    expect(page.get_by_role("toolbar")).to_be_hidden()
    page.keyboard.press("Control+a")
    expect(page.get_by_text("6 selected")).to_be_visible()
    page.get_by_role("button", name="Clear", exact=True).click()
    expect(page.get_by_role("toolbar")).to_be_hidden()


def test_choosing_with_a_band(gallery, six):
    page = gallery()
    shows(page, *(f"{n}.png" for n in reversed(range(6))))
    box = {name: tiles(page).nth(5 - int(name)).bounding_box() for name in "543"}
    page.mouse.move(box["5"]["x"] + 70, box["5"]["y"] + 70)
    page.wait_for_timeout(300)  # nobody draws a band in the first moment
    page.mouse.down()
    page.mouse.move(box["4"]["x"] + 40, box["4"]["y"] + 100, steps=4)
    expect(page.locator(".band")).to_be_visible()
    page.mouse.up()
    expect(page.get_by_text("2 selected")).to_be_visible()
    assert chosen(page) == ["5.png", "4.png"]
    expect(page.locator(".band")).to_have_count(0)
    assert page.url.endswith("/dashboard")
    page.keyboard.down("Shift")
    page.mouse.move(box["3"]["x"] + 70, box["3"]["y"] + 70)
    page.mouse.down()
    page.mouse.move(box["3"]["x"] + 90, box["3"]["y"] + 90, steps=3)
    page.mouse.up()
    page.keyboard.up("Shift")
    expect(page.get_by_text("3 selected")).to_be_visible()


def test_choosing_with_the_keyboard(gallery, six):
    page = gallery()
    shows(page, *(f"{n}.png" for n in reversed(range(6))))
    page.keyboard.press("/")
    expect(page.get_by_label("Search names")).to_be_focused()
    tiles(page).first.focus()
    page.keyboard.press("ArrowRight")
    expect(tiles(page).nth(1)).to_be_focused()
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    assert chosen(page) == ["4.png", "3.png"]
    page.keyboard.press("End")
    expect(tiles(page).nth(5)).to_be_focused()
    page.keyboard.press("x")
    assert chosen(page) == ["4.png", "3.png", "0.png"]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Home")
    expect(tiles(page).first).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/[0-9A-Za-z]{12}$"))


def test_choosing_with_a_finger(gallery, six):
    page = gallery(width=390, height=844, has_touch=True, is_mobile=True)
    shows(page, *(f"{n}.png" for n in reversed(range(6))))
    box = tiles(page).first.bounding_box()
    touch = page.context.new_cdp_session(page)
    at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [at]})
    expect(page.get_by_text("1 selected")).to_be_visible()
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    tiles(page).nth(1).tap()
    expect(page.get_by_text("2 selected")).to_be_visible()
    assert chosen(page) == ["5.png", "4.png"]
    tiles(page).nth(1).tap()
    tiles(page).first.tap()
    expect(page.get_by_role("toolbar")).to_be_hidden()
    tiles(page).nth(2).tap()
    page.wait_for_url(re.compile("/[0-9A-Za-z]{12}$"))


# Everywhere


def test_on_a_phone(gallery, server, key):
    fill(server, key, [f"{n}.png" for n in range(6)], namespace="trip")
    page = gallery(width=320, height=640)
    expect(tiles(page)).to_have_count(6)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    expect(page.get_by_role("list", name="Namespaces")).to_be_hidden()
    page.get_by_text("Filters", exact=True).click()
    expect(page.get_by_label("Go to date")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("list", name="Namespaces").get_by_role("link", name="trip").click()
    expect(page.get_by_role("list", name="Namespaces")).to_be_hidden()
    expect(page.get_by_role("button", name="Remove: in trip")).to_be_visible()
    expect(tiles(page)).to_have_count(6)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_without_script(gallery, server, key):
    fill(server, key, [f"{n}.png" for n in range(65)], namespace="trip")
    fill(server, key, ["cat.png"], tags="pet")
    page = gallery(script=False)
    expect(page.locator(".grid img")).to_have_count(45)
    page.get_by_role("link", name="Older pictures").click()
    expect(page.locator(".grid img")).to_have_count(21)
    page.get_by_role("link", name="Newest").click()
    page.get_by_label("Search names").fill("cat")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".grid img")).to_have_count(1)
    page.get_by_role("link", name="Clear all filters").click()
    page.get_by_role("link", name="pet 1").click()
    expect(page.locator(".grid img")).to_have_count(1)
    page.get_by_role("link", name="Last week").click()
    expect(page.get_by_text("No picture matches.")).to_be_visible()
    page.get_by_role("link", name="Clear all filters").first.click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download all as ZIP").click()
    assert len(zipfile.ZipFile(download.value.path()).namelist()) == 66
    page.locator(".grid a").first.click()
    expect(page.get_by_role("heading", name="cat.png")).to_be_visible()


@pytest.mark.parametrize("query", ["?from=soon", "?tags=" + "x" * 60, "?namespace=-", "?cursor=x", "?q=" + "x+" * 40])
@pytest.mark.parametrize("script", [True, False])
def test_addresses_that_make_no_sense_are_answered_in_words(gallery, server, key, query, script):
    fill(server, key, ["a.png"])
    page = gallery(query, script=script, expected=[422])
    if not script:
        expect(page.locator("#status")).not_to_be_empty()
        page.get_by_role("link", name="Clear all filters").first.click()
        expect(page.locator(".grid img")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_keeps_people_out(gallery, server, key, scheme, width):
    fill(server, key, [f"{n}.png" for n in range(8)], namespace="trip", tags="sea", public="false")
    page = gallery("?namespace=trip&tags=sea", width=width, height=844, color_scheme=scheme)
    expect(tiles(page)).to_have_count(8)
    page.evaluate("document.getElementById('side').open = true")
    assert serious(page) == []
    pick(page, "3.png")
    expect(page.get_by_role("toolbar")).to_be_visible()
    assert serious(page) == []
    page.get_by_role("toolbar").get_by_role("button", name="Tags").click()
    assert serious(page) == []


def test_it_is_light(gallery, server, key):
    for number in range(60):
        server.must_upload(PICTURES[number % 5], f"Screenshot from 2026-11-{number}.png", key=key)
    page = gallery()
    expect(tiles(page).first).to_be_visible()
    page.wait_for_load_state("load")
    name, value = (page.context.cookies()[0][part] for part in ("name", "value"))
    weight = len(server.get("/dashboard", Cookie=f"{name}={value}").body)
    for address in page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)"):
        if re.search(r"\.(js|css)$", address):
            weight += len(server.get(address).body)
    assert weight < 60 * 1024


def test_a_form_of_the_gallery_takes_no_file(server, key):
    """Only our own small fields: a multipart body is refused in words."""
    content, kind = multipart([("file", "a.png", PICTURES[0])])
    answer = server.request(
        "POST", "/dashboard/zip", content, {"Content-Type": kind, "Cookie": by_key(server, key).cookie}
    )
    assert answer.status in (400, 403, 413)
    assert io.BytesIO(answer.body).read()
