"""What the gallery does to the chosen pictures, and what it sees of what happens elsewhere."""

import re
import zipfile

import pytest
from playwright.sync_api import expect

from tests.browser import LAN
from tests.galleries import PICTURES, chosen, does, fill, leaves, media, pick, shows, tiles
from tests.servers import UNLIMITED, running

pytestmark = pytest.mark.browser

NUMBERS = iter(range(1_000))
ALL = [f"{n}.png" for n in reversed(range(6))]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("changes") / "data", UNLIMITED) as found:
        yield found


@pytest.fixture
def key(server):
    return server.new_key(f"ann{next(NUMBERS)}@example.org")


@pytest.fixture
def six(server, key):
    return fill(server, key, [f"{n}.png" for n in range(6)])


def test_tags_and_moves(gallery, server, key, six):
    page = gallery()
    pick(page, "5.png")
    pick(page, "3.png")
    does(page, "Tags", "Apply", Tags="Sea, sun")
    expect(page.get_by_text("2 pictures tagged")).to_be_visible()
    assert [media(server, key, six[n])["tags"] for n in (5, 4, 3)] == [["sea", "sun"], [], ["sea", "sun"]]
    expect(page.get_by_role("list", name="Tags").get_by_role("link")).to_have_text(["sea 2", "sun 2"])
    does(page, "Tags", "Apply", Do="remove", Tags="sun")
    expect(page.get_by_text("2 pictures no longer tagged so")).to_be_visible()
    assert media(server, key, six[5])["tags"] == ["sea"]
    does(page, "Move", "Move", To_the_namespace="trip")
    expect(page.get_by_text("2 pictures moved to trip")).to_be_visible()
    page.get_by_role("list", name="Namespaces").get_by_role("link", name="trip").click()
    shows(page, "5.png", "3.png")
    pick(page, "3.png")
    does(page, "Move", "Move", To_the_namespace="")
    shows(page, "5.png")
    assert media(server, key, six[3])["namespace"] is None


def test_visibility_and_expiry(gallery, server, key, six):
    page = gallery()
    pick(page, "5.png")
    does(page, "Visibility", "Apply", Visibility="false")
    expect(page.locator(".badges")).to_have_text(["Private"])
    assert media(server, key, six[5])["public"] is False
    does(page, "Expiry", "Apply", Ends="1d")
    expect(page.locator(".badges")).to_have_text(["Private · Ends in 1 d"])
    does(page, "Expiry", "Apply", Ends="")
    does(page, "Visibility", "Apply", Visibility="true")
    expect(page.locator(".badges")).to_have_count(0)
    assert "expires_at" not in media(server, key, six[5])


@pytest.mark.parametrize("where", ["loopback", "lan"])
def test_links_are_copied(gallery, server, key, six, where):
    base = server.base.replace("127.0.0.1", LAN) if where == "lan" else server.base
    page = gallery(base=base)
    assert page.evaluate("isSecureContext") is (where == "loopback")
    pick(page, "5.png")
    pick(page, "4.png")
    does(page, "Copy links", "Copy", Format="markdown")
    expect(page.get_by_text("2 links copied")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_label("Search names").focus()
    page.keyboard.press("Control+V")
    pasted = page.get_by_label("Search names").input_value()
    assert re.findall(r"!\[(\d\.png)\]\((\S+?)\)", pasted) == [
        (f"{n}.png", f"{base}/t/{six[n]['id']}.png") for n in (5, 4)
    ]


def test_a_zip_file_that_is_refused_leaves_the_gallery_as_it_is(gallery, server, key, six):
    page = gallery(expected=[401])
    shows(page, *ALL)
    page.evaluate("window.here = true")
    pick(page, "5.png")
    page.context.clear_cookies()
    page.get_by_role("button", name="Download ZIP").click()
    expect(page.locator(".notes .wrong")).to_be_visible()
    assert page.evaluate("window.here")
    assert chosen(page) == ["5.png"]


def test_a_zip_file_of_the_chosen(gallery, server, key, six):
    page = gallery()
    pick(page, "5.png")
    pick(page, "2.png")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download ZIP").click()
    found = zipfile.ZipFile(download.value.path())
    assert found.namelist() == ["5.png", "2.png"]
    assert [found.read(name) for name in found.namelist()] == [server.get(six[n]["src"]).body for n in (5, 2)]


def test_deleting(gallery, server, key, six):
    page = gallery()
    pick(page, "5.png")
    page.get_by_role("toolbar").get_by_role("button", name="Delete").click()
    shows(page, "4.png", "3.png", "2.png", "1.png", "0.png")
    expect(page.get_by_text("1 picture deleted")).to_be_hidden(timeout=20_000)
    leaves(server, six[5])
    expect(page.locator("#status")).to_have_text("5 pictures")


def test_who_leaves_has_not_taken_it_back(gallery, server, key, six):
    page = gallery()
    pick(page, "5.png")
    page.get_by_role("toolbar").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    page.goto(f"{server.base}/dashboard/account")
    leaves(server, six[5])


def test_what_is_refused_is_named_and_stays_chosen(gallery, server, key, six):
    server.api("PATCH", f"/v1/media/{six[4]['id']}", {"tags": [f"t{n}" for n in range(10)]}, key=key)
    page = gallery()
    pick(page, "5.png")
    pick(page, "4.png")
    does(page, "Tags", "Apply", Tags="more")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("1 picture changed.")
    expect(dialog).to_contain_text("4.png: A picture has at most 10 tags.")
    dialog.get_by_role("button", name="Close").click()
    assert chosen(page) == ["4.png"]


def test_a_batch_that_fails_is_tried_again_or_given_up(gallery, server, key, six):
    page = gallery(expected=[500])
    cut = []
    trouble = {
        "status": 500,
        "json": {"error": "server_error", "message": "Something went wrong.", "action": {"type": "fix"}},
    }

    def answer(route):
        if len(cut) == 2:
            return route.continue_()
        cut.append(route)
        return route.fulfill(**trouble)

    page.route("**/v1/media?ids=*", answer)
    pick(page, "5.png")
    does(page, "Visibility", "Apply", Visibility="false")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Something went wrong.")
    dialog.get_by_role("button", name="Try again").click()
    expect(dialog).to_contain_text("Something went wrong.")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_contain_text("1 picture not changed, because it was stopped.")
    dialog.get_by_role("button", name="Close").click()
    assert chosen(page) == ["5.png"]
    does(page, "Visibility", "Apply", Visibility="false")
    expect(page.get_by_text("1 picture private now")).to_be_visible()


def test_nothing_is_said_of_pictures_that_went_while_one_was_asked(gallery, server, key, six):
    page = gallery()
    pick(page, "5.png")
    page.get_by_role("toolbar").get_by_role("button", name="Visibility").click()
    server.api("DELETE", f"/v1/media/{six[5]['id']}", key=key)
    expect(tiles(page)).to_have_count(5)
    page.get_by_role("dialog").get_by_role("button", name="Apply").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.wait_for_timeout(300)
    assert page.locator(".notes p").count() == 0


# Live


def test_what_comes_before_it_listens_is_not_missed(gallery, server, key, six):
    held = []
    page = gallery(prepare=lambda page: page.route("**/v1/events", lambda route: held.append(route)))
    shows(page, *ALL)
    while not held:
        page.wait_for_timeout(20)
    server.must_upload(PICTURES[0], "new.png", key=key)
    server.api("DELETE", f"/v1/media/{six[0]['id']}", key=key)
    held[0].continue_()
    shows(page, "new.png", *ALL[:-1])


def test_what_happens_elsewhere_is_seen(gallery, server, key, six):
    one, two = gallery(), gallery("?namespace=trip")
    shows(one, *(f"{n}.png" for n in reversed(range(6))))
    expect(two.get_by_text("No picture found: in trip.")).to_be_visible()
    new = server.must_upload(PICTURES[0], "new.png", key=key, namespace="trip", tags="fresh")
    shows(one, "new.png", *(f"{n}.png" for n in reversed(range(6))))
    shows(two, "new.png")
    expect(one.get_by_role("list", name="Tags").get_by_role("link")).to_have_text(["fresh 1"])
    expect(one.locator("#status")).to_have_text("7 pictures")
    server.must_upload(PICTURES[1], "other.png", key=key)
    shows(one, "other.png", "new.png", *(f"{n}.png" for n in reversed(range(6))))
    pick(one, "new.png")
    does(one, "Visibility", "Apply", Visibility="false")
    expect(two.locator(".badges")).to_have_text(["Private"])
    server.api("PATCH", f"/v1/media/{new['id']}", {"namespace": "work"}, key=key)
    expect(tiles(two)).to_have_count(0)
    server.api("DELETE", f"/v1/media/{new['id']}", key=key)
    shows(one, "other.png", *(f"{n}.png" for n in reversed(range(6))))
    expect(one.get_by_role("toolbar")).to_be_hidden()
