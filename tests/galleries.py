"""The gallery in a test's browser: opened by who is signed in, looked at and used as people do."""

import time

from playwright.sync_api import Error, expect

from tests.pictures import encoded, make_image
from tests.signed_in import by_key

expect.set_options(timeout=15_000)

SIZES = ((60, 40), (40, 60), (90, 40), (50, 50), (64, 36))
PICTURES = [encoded(make_image("RGB", size), "PNG") for size in SIZES]


def opener(visit, server, own_key):
    """Return what opens the gallery of an account in a page of its own."""

    def open_gallery(query="", *, base=server.base, key=own_key, prepare=None, **options):
        page = visit(**options)
        if prepare:
            prepare(page)
        name, _, value = by_key(server, key).cookie.partition("=")
        page.context.add_cookies([{"name": name, "value": value, "url": base}])
        page.goto(f"{base}/dashboard{query}")
        return page

    return open_gallery


def fill(server, key, names, **fields):
    """Upload a picture for each name; the last is the newest."""
    return [server.must_upload(PICTURES[n % len(PICTURES)], name, key=key, **fields) for n, name in enumerate(names)]


def tiles(page):
    return page.locator(".live .tile > a")


def shows(page, *names):
    """Wait until the grid shows these pictures in this order."""
    expect(tiles(page)).to_have_count(len(names))
    for tile, name in zip(tiles(page).all(), names, strict=True):
        expect(tile).to_have_attribute("data-name", name)


def chosen(page):
    return [tile.get_attribute("data-name") for tile in page.locator(".tile.chosen-one > a").all()]


def pick(page, name, **how):
    page.locator(".tile", has=page.locator(f'a[data-name="{name}"]')).hover()
    page.get_by_role("checkbox", name=f"Select {name}").click(**how)


def does(page, action, button, **fields):
    """Press a button of the bar and fill in what it asks for."""
    page.get_by_role("toolbar").get_by_role("button", name=action).click()
    for label, value in fields.items():
        field = page.get_by_role("dialog").get_by_label(label.replace("_", " "))
        if field.evaluate("field => field.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)
    page.get_by_role("dialog").get_by_role("button", name=button, exact=True).click()


def with_times(page, *times):
    """Let the pictures of an account have come at these moments, as the page sees it; the newest first."""

    def answer(route):
        try:
            response = route.fetch()
            found = response.json()
        except Error:  # the page went on before it had its answer
            return
        for image, moment in zip(found["data"], times, strict=True):
            image["created_at"] = int(moment.timestamp())
        route.fulfill(response=response, json=found)

    page.route("**/v1/media?*", answer)


def leaves(server, image):
    """Wait until a picture is deleted."""
    deadline = time.monotonic() + 15
    while server.get(image["src"]).status != 404:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def media(server, key, image):
    return server.api("GET", f"/v1/media/{image['id']}", key=key).json()
