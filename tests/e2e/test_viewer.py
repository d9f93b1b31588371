"""The page of a picture in a real browser: zoom, keys, copying, the pictures beside it, changing and deleting."""

import io
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image

from tests.axe import serious
from tests.browser import LAN, until
from tests.e2e.uploads import signed_in
from tests.pictures import encoded, film, make_image

pytestmark = pytest.mark.browser

PNG = encoded(make_image("RGB", (600, 450)), "PNG")
LARGE = encoded(make_image("RGB", (4000, 3000)), "JPEG")
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="400" height="300"><rect width="400" height="300" fill="#c03020"/></svg>'
DATA = Path(__file__).resolve().parent.parent / "data"
PHONE = {"width": 390, "height": 844, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def album(server, key):
    """Three pictures of a namespace, the newest last."""
    return [server.must_upload(PNG, f"{n}.png", key=key, namespace="album") for n in range(3)]


def at_rest(page):
    """Return where the picture in the lens is once it stands still."""
    before = None
    while True:
        box = page.locator(".glass img").bounding_box()
        if box == before:
            return box
        before = box
        page.wait_for_timeout(80)


def zoom_of(page):
    return float(page.locator("#lens output").text_content().removesuffix("%"))


def open_lens(page):
    page.locator("#whole").click()
    page.locator("#lens[open]").wait_for()
    return at_rest(page)


def pictures_of(page):
    """Note the paths and sizes of the pictures that a page asks for."""
    asked = []
    page.on("request", lambda one: asked.append(one.url) if "/t/" in one.url else None)
    return asked


def is_full(url):
    return "size=" not in url and "download" not in url


# Zoom


def test_the_full_picture_comes_only_when_the_zoom_needs_it(visit, server):
    found = server.must_upload(LARGE, "large.jpg")
    page = visit()
    asked = pictures_of(page)
    page.goto(found["url"])
    page.wait_for_load_state("networkidle")
    fitted = open_lens(page)
    page.wait_for_load_state("networkidle")
    assert [url for url in asked if is_full(url)] == []
    assert page.locator(".glass img").evaluate("one => one.naturalWidth") == 1440
    page.mouse.move(fitted["x"] + 300, fitted["y"] + 200)
    page.mouse.wheel(0, -200)
    until(page, "document.querySelector('.glass img').naturalWidth === 4000")
    assert [urlsplit(url).path for url in asked if is_full(url)] == [urlsplit(found["src"]).path]


def test_the_wheel_zooms_towards_the_pointer_and_the_picture_never_leaves(visit, server):
    page = visit()
    page.goto(server.must_upload(LARGE, "large.jpg")["url"])
    fitted = open_lens(page)
    assert (fitted["width"] / fitted["height"]) == pytest.approx(4 / 3, rel=0.01)
    at = fitted["x"] + 700, fitted["y"] + 150

    def under_pointer(box):
        return (at[0] - box["x"]) / box["width"], (at[1] - box["y"]) / box["height"]

    page.mouse.move(*at)
    page.mouse.wheel(0, -240)
    page.mouse.wheel(0, -240)
    zoomed = at_rest(page)
    assert zoomed["width"] > 2 * fitted["width"]
    assert under_pointer(zoomed) == pytest.approx(under_pointer(fitted), abs=0.01)
    glass = page.locator(".glass").bounding_box()
    page.mouse.down()
    page.mouse.move(at[0] + 3000, at[1] + 3000, steps=5)
    page.mouse.up()
    box = at_rest(page)
    assert (box["x"], box["y"]) == pytest.approx((glass["x"], glass["y"]), abs=1)
    page.mouse.move(*at)
    for _ in range(4):
        page.mouse.wheel(0, 240)
    assert at_rest(page) == pytest.approx(fitted, abs=1)
    page.keyboard.press("Escape")
    assert not page.locator("#lens[open]").count()


def test_the_wheel_scrolls_the_page_while_nothing_is_opened(visit, server):
    page = visit(height=500)
    page.goto(server.must_upload(LARGE, "large.jpg")["url"])
    page.mouse.move(700, 300)
    page.mouse.wheel(0, 150)
    until(page, "scrollY > 100")
    assert not page.locator("#lens[open]").count()


def test_double_click_drag_buttons_and_keys(visit, server):
    page = visit()
    page.goto(server.must_upload(LARGE, "large.jpg")["url"])
    fitted = open_lens(page)
    first = zoom_of(page)
    page.mouse.dblclick(fitted["x"] + 200, fitted["y"] + 200)
    actual = at_rest(page)
    assert zoom_of(page) == 100
    assert actual["width"] == pytest.approx(4000, abs=2)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    moved = at_rest(page)
    assert moved["x"] == pytest.approx(actual["x"] - 90, abs=1)
    assert moved["y"] == pytest.approx(actual["y"] - 90, abs=1)
    page.mouse.move(600, 400)
    page.mouse.down()
    page.mouse.move(650, 430, steps=4)
    page.mouse.up()
    dragged = at_rest(page)
    assert (dragged["x"] - moved["x"], dragged["y"] - moved["y"]) == pytest.approx((50, 30), abs=8)
    page.mouse.dblclick(600, 400)
    assert at_rest(page) == pytest.approx(fitted, abs=1)
    for press, wanted in (("+", first * 1.5), ("-", first), ("1", 100), ("0", first), ("z", first * 1.5), ("0", first)):
        page.keyboard.press(press)
        at_rest(page)
        assert zoom_of(page) == pytest.approx(wanted, abs=1), press
    for name, wanted in (("Zoom in", first * 1.5), ("Zoom out", first), ("Actual size", 100), ("Fit", first)):
        page.get_by_role("button", name=name, exact=True).click()
        at_rest(page)
        assert zoom_of(page) == pytest.approx(wanted, abs=1), name
    page.keyboard.press("f")
    until(page, "document.fullscreenElement !== null")
    page.get_by_role("button", name="Full screen").click()
    until(page, "document.fullscreenElement === null")
    page.get_by_role("button", name="Close").click()
    assert page.evaluate("document.activeElement.id") == "whole"
    until(page, "!location.href.includes('#')")


def fingers(page):
    """Return what moves fingers on the screen; the places of all that touch it are given each time."""
    session = page.context.new_cdp_session(page)

    def touch(kind, *points):
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    return touch


def test_fingers_pinch_pan_and_tap_twice(visit, server):
    page = visit(**PHONE)
    page.goto(server.must_upload(LARGE, "large.jpg")["url"])
    page.locator("#zoom").tap()
    page.locator("#lens[open]").wait_for()
    fitted = at_rest(page)
    touch, middle = fingers(page), fitted["y"] + fitted["height"] / 2
    touch("touchStart", (170, middle), (220, middle))
    for reach in (40, 60, 80, 100):
        touch("touchMove", (195 - reach, middle), (195 + reach, middle))
    touch("touchEnd")
    pinched = at_rest(page)
    assert pinched["width"] == pytest.approx(fitted["width"] * 4, rel=0.02)
    assert pinched["x"] + pinched["width"] / 2 == pytest.approx(195, abs=4)
    touch("touchStart", (200, 300))
    for step in (20, 40, 60):
        touch("touchMove", (200 - step, 300))
    touch("touchEnd")
    assert at_rest(page)["x"] == pytest.approx(pinched["x"] - 60, abs=8)
    assert page.evaluate("visualViewport.scale") == 1
    for _ in range(2):
        touch("touchStart", (200, 300))
        touch("touchEnd")
    assert at_rest(page) == pytest.approx(fitted, abs=1)
    page.go_back()
    until(page, "!document.getElementById('lens').open && !location.hash")


def test_without_motion_the_zoom_is_at_once(visit, server):
    page = visit(reduced_motion="reduce")
    page.goto(server.must_upload(LARGE, "large.jpg")["url"])
    open_lens(page)
    widths = page.evaluate(
        """() => {
            const width = () => document.querySelector(".glass img").getBoundingClientRect().width;
            const before = width();
            document.querySelector('[data-do="actual"]').click();
            return [before, width()];
        }"""
    )
    assert widths[1] == pytest.approx(4000, abs=1)
    assert widths[0] < 1500


ODD = {
    "a dot": (lambda: encoded(make_image("RGB", (1, 1)), "PNG"), (1, 1)),
    "a panorama": (lambda: encoded(make_image("RGB", (20_000, 100)), "JPEG"), (20_000, 100)),
    "a drawing": (lambda: SVG, (400, 300)),
    "a film": (lambda: film("GIF", 4, (2000, 1500)), (2000, 1500)),
    "a phone's photo": (lambda: (DATA / "gps-rotated.heic").read_bytes(), None),
    "clear": (lambda: encoded(Image.new("RGBA", (900, 700), (0, 0, 0, 0)), "PNG"), (900, 700)),
}


@pytest.mark.parametrize("name", ODD)
def test_pictures_of_all_kinds_fit_and_zoom_to_their_own_pixels(visit, server, name):
    make, size = ODD[name]
    found = server.must_upload(make(), "x")
    size = size or (found["width"], found["height"])
    page = visit()
    asked = pictures_of(page)
    page.goto(found["url"])
    page.locator("#zoom").click()
    fitted = at_rest(page)
    glass = page.locator(".glass").bounding_box()
    assert fitted["width"] <= glass["width"] + 1
    assert fitted["height"] <= glass["height"] + 1
    page.keyboard.press("1")
    actual = at_rest(page)
    assert (actual["width"], actual["height"]) == pytest.approx(size, rel=0.02)
    page.keyboard.press("+")
    page.wait_for_load_state("networkidle")
    assert at_rest(page)["width"] == pytest.approx(size[0] * 1.5, rel=0.02)
    until(page, "document.querySelector('.glass img').complete")
    shown = page.locator(".glass img").evaluate("one => one.naturalWidth")
    assert shown == size[0]
    shrinks = found["sizes"]["l"]["width"] < size[0]
    assert len([url for url in asked if is_full(url)]) == (1 if shrinks or name == "a drawing" else 0)


# Keys, copying


def clipboard(page):
    page.evaluate(
        "(() => { const a = document.createElement('textarea'); a.id = 'to'; document.body.append(a); a.focus() })()"
    )
    page.keyboard.press("Control+V")
    text = page.evaluate("document.getElementById('to').value")
    page.evaluate("document.getElementById('to').remove()")
    return text


@pytest.mark.parametrize("where", ["loopback", "lan"])
def test_the_chosen_format_is_copied_and_remembered(visit, server, where):
    base = server.base if where == "loopback" else server.base.replace("127.0.0.1", LAN)
    found = server.must_upload(PNG, "a.png")
    src = f"{base}/t/{found['id']}.png"
    page = visit(permissions=["clipboard-read", "clipboard-write"] if where == "loopback" else [])
    page.goto(f"{base}/{found['id']}")
    assert page.get_by_label("Text to copy").input_value() == f"{base}/{found['id']}"
    page.get_by_role("radio", name="Markdown").check()
    assert page.get_by_label("Text to copy").input_value() == f"![a.png]({src})"
    page.get_by_role("button", name="Copy", exact=True).click()
    page.get_by_text("Markdown copied.").wait_for()
    assert clipboard(page) == f"![a.png]({src})"
    other = server.must_upload(PNG, "b.png")
    page.goto(f"{base}/{other['id']}")
    assert page.get_by_role("radio", name="Markdown").is_checked()
    page.keyboard.press("c")
    page.get_by_text("Markdown copied.").wait_for()
    assert clipboard(page) == f"![b.png]({base}/t/{other['id']}.png)"


def test_keys_open_their_list_download_and_stay_out_of_fields(visit, server, key, album):
    page = visit()
    signed_in(page, server, key)
    page.goto(album[1]["url"])
    page.keyboard.press("?")
    assert page.get_by_role("dialog", name="Keys").is_visible()
    page.keyboard.press("z")
    page.keyboard.press("Escape")
    assert not page.locator("dialog[open]").count()
    page.wait_for_timeout(500)  # to Chromium Escape also means "stop loading", a moment later: a download, for one
    with page.expect_download() as started:
        page.keyboard.press("d")
    assert started.value.suggested_filename == "1.png"
    page.locator("#edit summary").click()
    name = page.get_by_label("Name", exact=True)
    name.press("End")
    for press in ("z", "f", "c", "d", "ArrowLeft", "?", "+"):
        name.press(press)
    assert name.input_value() == "1.pngzfc?+d"
    assert page.url == album[1]["url"]
    assert not page.locator("dialog[open]").count()
    page.locator("#edit summary").focus()
    page.keyboard.press("Control+ArrowRight")
    page.keyboard.press("Alt+z")
    assert not page.locator("dialog[open]").count()
    assert page.url == album[1]["url"]
    page.get_by_role("button", name="Keys").click()
    page.get_by_label("Use these keys").uncheck()
    page.get_by_role("button", name="Close").click()
    page.goto(album[0]["url"])
    page.keyboard.press("z")
    assert not page.locator("dialog[open]").count()


# Beside


def test_the_pictures_beside_are_reached_by_keys_buttons_and_swipes(visit, server, key, album):
    page = visit()
    signed_in(page, server, key)
    page.goto(album[1]["url"])
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(album[2]["url"])
    assert not page.get_by_role("link", name="Newer").count()
    page.get_by_role("link", name="Older").click()
    page.wait_for_url(album[1]["url"])
    page.keyboard.press("z")
    page.keyboard.press("ArrowRight")
    page.wait_for_url(album[0]["url"] + "#zoom")
    page.locator("#lens[open]").wait_for()
    page.get_by_role("button", name="Newer").click()
    page.wait_for_url(album[1]["url"] + "#zoom")
    page.keyboard.press("Escape")
    until(page, "!location.hash")
    phone = visit(**PHONE)
    signed_in(phone, server, key)
    phone.goto(album[1]["url"])
    touch = fingers(phone)
    for begin, step, wanted in ((300, -40, album[0]), (80, 40, album[1])):
        phone.wait_for_load_state("load")
        touch("touchStart", (begin, 200))
        for number in range(1, 6):
            touch("touchMove", (begin + step * number, 204))
        touch("touchEnd")
        phone.wait_for_url(wanted["url"])


def test_what_is_beside_is_fetched_while_the_browser_is_idle(visit, server, key, album):
    page = visit()
    signed_in(page, server, key)
    asked = pictures_of(page)
    page.goto(album[1]["url"])
    page.wait_for_load_state("networkidle")
    wanted = {f"/t/{album[n]['id']}.png" for n in range(3)}
    deadline = time.monotonic() + 15
    while {urlsplit(url).path for url in asked} != wanted:
        assert time.monotonic() < deadline, asked
        page.wait_for_timeout(50)


# For everybody


def test_a_stranger_is_shown_no_way_on(visit, server, key, album):
    page = visit()
    events = []
    page.on("request", lambda one: events.append(one.url) if "/v1/events" in one.url else None)
    page.goto(album[1]["url"])
    for name in ("Newer", "Older", "Delete"):
        assert not page.get_by_role("link", name=name).count()
    assert not page.locator("#edit").count()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("z")
    assert not page.get_by_role("button", name="Older").count()
    page.wait_for_load_state("networkidle")
    assert urlsplit(page.url).path == urlsplit(album[1]["url"]).path
    assert events == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_keeps_anybody_out(visit, server, key, album, scheme):
    page = visit(color_scheme=scheme, reduced_motion="reduce")
    signed_in(page, server, key)
    page.goto(album[1]["url"])
    assert serious(page) == []
    for part in ("#edit", "#all", "#sizes", "#qr"):
        page.locator(f"{part} summary").click()
    assert serious(page) == []
    page.keyboard.press("?")
    assert serious(page) == []
    page.keyboard.press("Escape")
    page.locator("#zoom").click()
    assert serious(page) == []
    page.keyboard.press("Escape")
    until(page, "!location.hash")
    private = server.must_upload(encoded(make_image("RGBA", (5, 5)), "PNG"), "dot.png", key=key, public="false")
    page.goto(private["url"])
    assert serious(page) == []
    page.goto(f"{private['url']}/remove")
    assert serious(page) == []


def test_the_code_for_phones_is_dark_on_light_in_both_schemes(visit, server, key, album):
    for scheme in ("light", "dark"):
        page = visit(color_scheme=scheme)
        page.goto(album[1]["url"])
        page.locator("#qr summary").click()
        until(page, "document.querySelector('.qr').complete && document.querySelector('.qr').naturalWidth > 0")
        seen = Image.open(io.BytesIO(page.locator(".qr").screenshot())).convert("L")
        quiet = seen.crop((14, 14, 24, seen.height - 14))
        assert quiet.getextrema() == (255, 255)
        assert seen.getextrema() == (0, 255)


@pytest.mark.parametrize("owner", [True, False])
def test_the_page_weighs_little(visit, server, key, album, owner):
    page = visit()
    if owner:
        signed_in(page, server, key)
    loaded = [album[1]["url"]]
    page.on("request", lambda one: loaded.append(one.url) if "/static/" in one.url else None)
    page.goto(album[1]["url"])
    page.wait_for_load_state("networkidle")
    cookie = "; ".join(f"{one['name']}={one['value']}" for one in page.context.cookies())
    weights = {url: len(server.get(url, Accept="text/html", Cookie=cookie).body) for url in loaded}
    assert any(url.endswith("zoom.js") for url in weights)
    assert sum(weights.values()) < 60_000, weights


def test_every_width_holds_the_page_with_everything_open(visit, server, key):
    found = server.must_upload(
        PNG, "A-very-long-name_" + "x" * 200 + ".png", key=key, tags=",".join("t" * 40 + str(n) for n in range(9)),
        namespace="n" * 60, public="false", ttl="3d",
    )  # fmt: skip
    page = visit()
    signed_in(page, server, key)
    page.goto(found["url"])
    for part in ("#edit", "#all", "#sizes", "#qr"):
        page.locator(f"{part} summary").click()
    for width in (320, 390, 768, 1440, 3840):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, width
        page.locator("#zoom").click()
        assert page.locator("#lens").evaluate("one => one.scrollWidth") <= width
        page.keyboard.press("Escape")
        until(page, "!location.hash")
