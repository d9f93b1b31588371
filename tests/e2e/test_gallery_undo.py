"""Deleting in the gallery while it can be undone, and where the keyboard is after something went."""

import re

import pytest
from playwright.sync_api import expect

from tests.galleries import PICTURES, does, fill, leaves, media, pick, shows, tiles
from tests.servers import UNLIMITED, running

pytestmark = pytest.mark.browser

NUMBERS = iter(range(1_000))
ALL = [f"{n}.png" for n in reversed(range(6))]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("undo") / "data", UNLIMITED) as found:
        yield found


@pytest.fixture
def key(server):
    return server.new_key(f"ann{next(NUMBERS)}@example.org")


@pytest.fixture
def six(server, key):
    return fill(server, key, reversed(ALL))


def delete(page, *names):
    for name in names:
        pick(page, name)
    page.get_by_role("toolbar").get_by_role("button", name="Delete").click()


def focused(page, name):
    expect(page.locator(f'.tile > a[data-name="{name}"]')).to_be_focused()


# Undo


@pytest.mark.parametrize("how", ["the button", "Ctrl+Z"])
def test_deleting_can_be_undone(gallery, server, key, six, how):
    page = gallery()
    shows(page, *ALL)
    page.clock.install()
    sent = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "DELETE" else None)
    delete(page, "5.png", "3.png")
    shows(page, "4.png", "2.png", "1.png", "0.png")
    if how == "Ctrl+Z":
        page.keyboard.press("Control+z")
    else:
        page.get_by_role("button", name="Undo").click()
        focused(page, "5.png")
    shows(page, *ALL)
    page.clock.fast_forward(20_000)
    page.goto(f"{server.base}/dashboard/account")
    page.goto(f"{server.base}/dashboard")
    shows(page, *ALL)
    assert sent == []


def test_what_may_still_be_undone_is_in_no_list(gallery, server, key, six):
    page = gallery()
    shows(page, *ALL)
    page.clock.install()  # so that it can be undone for as long as this takes
    page.clock.pause_at(page.evaluate("Date.now() / 1000 + 1"))
    delete(page, "5.png")
    shows(page, *ALL[1:])
    for link in ("Today", "Any time"):
        page.get_by_role("navigation", name="When").get_by_role("link", name=link).click()
        page.clock.run_for(1_000)
        shows(page, *ALL[1:])
    page.go_back()
    page.clock.run_for(1_000)
    shows(page, *ALL[1:])
    page.get_by_role("button", name="Undo").click()
    page.clock.run_for(1_000)
    shows(page, *ALL)


def test_undo_puts_nothing_into_a_list_where_it_does_not_belong(gallery, server, key, six):
    page = gallery()
    shows(page, *ALL)
    delete(page, "5.png")
    page.get_by_label("Search names").fill("3.png")
    shows(page, "3.png")
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)
    page.wait_for_timeout(400)
    shows(page, "3.png")
    page.go_back()
    shows(page, *ALL)
    expect(page.locator("#status")).to_have_text("6 pictures")


def test_undo_does_not_bring_back_what_was_deleted_elsewhere(gallery, server, key, six):
    page = gallery()
    shows(page, *ALL)
    page.wait_for_load_state("networkidle")
    delete(page, "5.png", "4.png")
    shows(page, *ALL[2:])
    with page.expect_request("**/v1/tags"):  # it was told
        server.api("DELETE", f"/v1/media/{six[5]['id']}", key=key)
    page.get_by_role("button", name="Undo").click()
    shows(page, *ALL[1:])
    expect(page.locator("#status")).to_have_text("5 pictures")
    page.wait_for_timeout(400)
    shows(page, *ALL[1:])


# The keyboard


def test_the_keyboard_goes_on_where_a_filter_was(gallery, server, key):
    fill(server, key, ["a cat.png"], namespace="trip", tags="sea")
    page = gallery("?q=cat&namespace=trip&tags=sea")
    for name, then in (("“cat”", "in trip"), ("in trip", "tagged sea")):
        page.get_by_role("button", name=f"Remove: {name}").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name=f"Remove: {then}")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Search names")).to_be_focused()
    expect(page.get_by_role("button", name=re.compile("Remove"))).to_have_count(0)


def test_the_keyboard_goes_on_after_the_bar(gallery, six):
    page = gallery()
    shows(page, *ALL)
    tiles(page).nth(2).focus()
    page.keyboard.press("x")
    everything = page.get_by_role("button", name="Select all")
    everything.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("6 selected")).to_be_visible()
    focused(page, "3.png")
    page.get_by_role("button", name="Clear", exact=True).focus()
    page.keyboard.press("Enter")
    focused(page, "3.png")


def test_the_keyboard_goes_on_after_the_last_picture(gallery, server, key):
    [image] = fill(server, key, ["only.png"])
    page = gallery()
    shows(page, "only.png")
    tiles(page).first.focus()
    page.keyboard.press("Delete")
    expect(page.locator("#status")).to_have_text("No pictures yet.")
    expect(page.locator("#status")).to_be_focused()
    page.goto(f"{server.base}/dashboard/account")
    leaves(server, image)


def test_the_slash_is_not_taken_from_others(gallery, six):
    page = gallery()
    shows(page, *ALL)
    search = page.get_by_label("Search names")
    page.keyboard.press("Control+/")
    expect(search).not_to_be_focused()
    pick(page, "5.png")
    page.get_by_role("button", name="Visibility").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").focus()
    page.keyboard.press("/")
    expect(search).not_to_be_focused()
    page.keyboard.press("Escape")
    page.evaluate("localStorage.setItem('imgpro.keys', 'off')")
    page.keyboard.press("/")
    expect(search).not_to_be_focused()
    page.evaluate("localStorage.removeItem('imgpro.keys')")
    page.keyboard.press("/")
    expect(search).to_be_focused()


# Words, and another place


def test_one_is_spoken_of_as_one(gallery, six):
    page = gallery()
    pick(page, "5.png")
    page.get_by_role("toolbar").get_by_role("button", name="Expiry").click()
    expect(page.get_by_role("dialog", name="Expiry of 1 picture")).to_be_visible()
    page.get_by_role("dialog").get_by_role("button", name="Apply").click()
    expect(page.get_by_text("1 picture set to expire")).to_be_visible()


def test_below_a_path(gallery, server, key, six):
    base = f"{server.base}/pictures"

    def prepare(page):
        # As a proxy does that serves this site below a path.
        page.route(f"{base}/**", lambda route: route.continue_(url=route.request.url.replace("/pictures/", "/", 1)))

    asked = []
    page = gallery(base=base, prepare=prepare)
    page.on("request", lambda request: asked.append(request.url))
    shows(page, *ALL)
    page.reload()
    shows(page, *ALL)
    page.wait_for_load_state("load")
    assert page.evaluate("[...document.querySelectorAll('.live img')].every((img) => img.complete && img.naturalWidth)")
    server.must_upload(PICTURES[0], "new.png", key=key)
    shows(page, "new.png", *ALL)
    page.get_by_label("Search names").fill("5.png")
    shows(page, "5.png")
    pick(page, "5.png")
    does(page, "Tags", "Apply", Tags="sea")
    expect(page.get_by_text("1 picture tagged")).to_be_visible()
    assert media(server, key, six[5])["tags"] == ["sea"]
    with page.expect_download() as download:
        page.get_by_role("button", name="Download ZIP").click()
    assert download.value.suggested_filename.endswith(".zip")
    page.keyboard.press("Escape")
    tiles(page).first.click()
    page.wait_for_url(f"{base}/{six[5]['id']}")
    page.go_back()
    shows(page, "5.png")
    assert [url for url in asked if not url.startswith((base + "/", "data:"))] == []
