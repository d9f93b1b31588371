"""A picture changed and deleted on its page in a real browser: by its owner, by its uploader, and by others meanwhile."""

import json
import time
from urllib.parse import urlsplit

import pytest

from tests.browser import LAN, until
from tests.e2e.uploads import deletions, signed_in
from tests.pictures import encoded, make_image

pytestmark = pytest.mark.browser

PNG = encoded(make_image("RGB", (600, 450)), "PNG")


# Changing


def test_a_change_is_saved_and_shown_without_leaving_the_page(visit, server, key):
    found = server.must_upload(PNG, "before.png", key=key)
    page = visit(expected=[422])
    signed_in(page, server, key)
    page.goto(found["url"])
    page.evaluate("window.same = true")
    page.locator("#edit summary").click()
    page.get_by_label("Name", exact=True).fill("after.png")
    page.get_by_label("Tags").fill("Sea, sky")
    page.get_by_label("Namespace", exact=True).fill("NOT good")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Must be 2 to 64 of a-z").wait_for()
    assert page.get_by_label("Namespace", exact=True).evaluate("one => one === document.activeElement")
    assert page.get_by_label("Name", exact=True).input_value() == "after.png"
    page.get_by_label("Namespace", exact=True).fill("coast")
    page.get_by_label("Who can see it").select_option("false")
    page.get_by_label("It ends").select_option("86400")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved.").wait_for()
    assert page.locator("h1").text_content() == "after.png"
    assert page.locator(".labels li").all_text_contents() == ["coast", "sea", "sky"]
    assert page.get_by_text("Private: only you see it").is_visible()
    assert page.get_by_text("Ends in 24 hours").is_visible()
    assert "sig=" in page.get_by_label("Text to copy").input_value()
    assert page.title().startswith("after.png")
    assert not page.get_by_label("Name", exact=True).is_visible()
    assert page.evaluate("window.same")
    now = server.api("GET", f"/v1/media/{found['id']}", key=key).json()
    assert (now["name"], now["tags"], now["namespace"], now["public"]) == ("after.png", ["sea", "sky"], "coast", False)


def test_only_what_was_touched_is_sent(visit, server, key):
    found = server.must_upload(PNG, "a.png", key=key, tags="one")
    page = visit()
    signed_in(page, server, key)
    page.goto(found["url"])
    page.locator("#edit summary").click()
    page.get_by_label("Description").fill("new words")
    server.api("PATCH", f"/v1/media/{found['id']}", {"tags": ["two"]}, key=key)
    page.get_by_text("two", exact=True).wait_for()  # a change made elsewhere arrives, and what is typed stays
    assert page.get_by_label("Description").input_value() == "new words"
    with page.expect_request(lambda one: one.method == "PATCH") as sent:
        page.get_by_role("button", name="Save").click()
    assert json.loads(sent.value.post_data) == {"description": "new words"}
    page.get_by_text("Saved.").wait_for()
    assert page.locator(".labels li").all_text_contents() == ["two"]


def test_changing_and_deleting_without_script(visit, server, key):
    found = server.must_upload(PNG, "a.png", key=key)
    page = visit(script=False, expected=[404, 422])
    signed_in(page, server, key)
    page.goto(found["url"])
    page.locator("#edit summary").click()
    page.get_by_label("Namespace", exact=True).fill("NOT good")
    page.get_by_role("button", name="Save").click()
    assert page.get_by_text("Must be 2 to 64 of a-z").is_visible()
    page.get_by_label("Namespace", exact=True).fill("quiet")
    page.get_by_label("Name", exact=True).fill("b.png")
    page.get_by_role("button", name="Save").click()
    assert page.url == found["url"]
    assert page.locator("h1").text_content() == "b.png"
    assert not page.get_by_role("button", name="Zoom").is_visible()
    page.get_by_role("link", name="Delete", exact=True).click()
    assert page.locator("h1").text_content() == "Delete this picture?"
    page.get_by_role("link", name="Keep it").click()
    assert page.url == found["url"]
    page.get_by_role("link", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete").click()
    assert page.locator("h1").text_content() == "The picture is deleted"
    page.goto(found["url"])
    assert page.locator("h1").text_content() == "There is nothing at this address."


# Deleting


def is_there(server, found, key):
    return server.api("GET", f"/v1/media/{found['id']}", key=key).status == 200


def eventually_gone(server, found, key):
    deadline = time.monotonic() + 15
    while is_there(server, found, key):
        assert time.monotonic() < deadline, "it was never deleted"
        time.sleep(0.05)


def test_deleting_can_be_undone_and_then_leads_to_the_next(visit, server, key):
    row = [server.must_upload(PNG, f"{n}.png", key=key, namespace="delete") for n in range(2)]
    page = visit()
    page.clock.install()
    signed_in(page, server, key)
    sent = deletions(page)
    page.goto(row[1]["url"])
    for way in ("button", "key"):
        page.get_by_role("link", name="Delete", exact=True).click()
        page.get_by_text("The picture is being deleted.").wait_for()
        if way == "button":
            page.get_by_role("button", name="Undo").click()
        else:
            page.keyboard.press("Control+z")
        page.get_by_text("The picture is kept.").last.wait_for()
        assert not page.evaluate("document.body.classList.contains('going')")
        page.clock.run_for(20_000)
        assert sent == []
        assert is_there(server, row[1], key)
    page.get_by_role("link", name="Delete", exact=True).click()
    page.get_by_role("button", name="Undo").wait_for()
    assert sent == []
    page.clock.run_for(10_000)
    page.wait_for_url(row[0]["url"])
    eventually_gone(server, row[1], key)
    assert len(sent) == 1
    page.get_by_role("link", name="Delete", exact=True).click()
    page.get_by_role("button", name="Undo").wait_for()
    page.clock.run_for(10_000)
    page.wait_for_url(server.base + "/dashboard")
    eventually_gone(server, row[0], key)
    assert len(sent) == 2


def test_who_leaves_meanwhile_has_deleted_once(visit, server, key):
    row = [server.must_upload(PNG, f"{n}.png", key=key, namespace="leave") for n in range(3)]
    page = visit()
    signed_in(page, server, key)
    sent = deletions(page)
    page.goto(row[2]["url"])
    page.get_by_role("link", name="Delete", exact=True).click()
    page.get_by_role("button", name="Undo").wait_for()
    page.keyboard.press("ArrowRight")
    page.wait_for_url(row[1]["url"])
    eventually_gone(server, row[2], key)
    assert len(sent) <= 1  # the browser's own list of requests may miss one that outlives its page
    page.get_by_role("link", name="Delete", exact=True).click()
    page.get_by_role("button", name="Undo").wait_for()
    page.close()
    eventually_gone(server, row[1], key)
    assert is_there(server, row[0], key)
    page = visit()
    page.goto(server.base + "/")  # what is under way comes to its end
    assert not [line for line in server.log().splitlines() if '"DELETE"' in line and '"status": 404' in line]


def test_a_deletion_that_fails_is_told_and_the_picture_stays(visit, server, key):
    found = server.must_upload(PNG, "a.png", key=key)
    page = visit(expected=[507])
    signed_in(page, server, key)
    page.goto(found["url"])
    answer = {"error": "storage_full", "message": "No room.", "action": {"type": "wait", "label": "Try later"}}
    page.route("**/v1/media/*", lambda route: route.fulfill(status=507, body=json.dumps(answer)))
    page.get_by_role("link", name="Delete", exact=True).click()
    page.get_by_text("No room. Try later.").wait_for()
    assert page.url == found["url"]
    assert not page.evaluate("document.body.classList.contains('going')")


@pytest.mark.parametrize("where", ["loopback", "lan"])
def test_the_browser_that_uploaded_deletes_with_a_way_back(visit, server, where):
    base = server.base if where == "loopback" else server.base.replace("127.0.0.1", LAN)
    page = visit(script=False)
    page.goto(base + "/")
    page.set_input_files("input[type=file]", {"name": "mine.png", "mimeType": "image/png", "buffer": PNG})
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url(lambda url: len(urlsplit(url).path) == 13)
    other = visit(expected=[404])
    other.context.add_cookies(page.context.cookies())
    other.goto(page.url)
    other.get_by_role("link", name="Delete", exact=True).click()
    other.get_by_role("button", name="Undo").click()
    other.get_by_text("The picture is kept.").wait_for()
    other.get_by_role("link", name="Delete", exact=True).click()
    other.get_by_role("heading", name="The picture is deleted").wait_for()
    assert other.get_by_role("link", name="Upload another").is_visible()
    assert server.get(urlsplit(page.url).path).status == 404


def test_a_picture_that_goes_meanwhile_is_a_calm_page(visit, server, key):
    row = [server.must_upload(PNG, f"{n}.png", key=key, namespace="live") for n in range(2)]
    page = visit(expected=[404])  # of a page that is read anew for the first, and finds the second gone
    signed_in(page, server, key)
    with page.expect_response("**/v1/events"):
        page.goto(row[1]["url"])
    assert page.get_by_role("link", name="Older").count() == 1
    server.api("DELETE", f"/v1/media/{row[0]['id']}", key=key)
    until(page, "document.querySelector('[rel=next]') === null")
    server.api("DELETE", f"/v1/media/{row[1]['id']}", key=key)
    page.get_by_role("heading", name="The picture is deleted").wait_for()
    assert page.get_by_role("link", name="Your pictures").is_visible()
    page.keyboard.press("z")
    assert not page.locator("dialog[open]").count()


# What happens meanwhile


def test_a_change_before_the_page_listens_is_not_missed(visit, server, key):
    found = server.must_upload(PNG, "a.png", key=key)
    page = visit()
    signed_in(page, server, key)
    held = []
    page.route("**/v1/events", lambda route: held.append(route))
    page.goto(found["url"])
    page.wait_for_load_state("load")
    while not held:
        page.wait_for_timeout(20)
    server.api("PATCH", f"/v1/media/{found['id']}", {"tags": ["early"]}, key=key)
    assert page.get_by_text("early", exact=True).count() == 0
    held[0].continue_()
    page.get_by_text("early", exact=True).wait_for()


def test_a_change_folds_nothing_and_takes_no_focus(visit, server, key):
    found = server.must_upload(PNG, "a.png", key=key)
    page = visit()
    signed_in(page, server, key)
    with page.expect_response("**/v1/events"):
        page.goto(found["url"])
    page.locator("#all summary").click()
    for number, place in enumerate(("#all summary", "#all [data-copy=copy-html]", "#copy")):
        page.locator(place).focus()
        name = f"change{number}.png"
        server.api("PATCH", f"/v1/media/{found['id']}", {"name": name}, key=key)
        until(page, "name => document.getElementById('copy-markdown').value.includes(name)", name)
        assert page.locator("#all[open]").count() == 1
        until(page, "place => document.activeElement === document.querySelector(place)", place)
    assert page.locator("#sizes[open], #qr[open]").count() == 0


def test_a_name_from_right_to_left_stays_in_its_place(visit, server, key):
    name = "\u05ea\u05de\u05d5\u05e0\u05d4 (1).png"
    found = server.must_upload(PNG, name, key=key)
    page = visit()
    signed_in(page, server, key)
    for address, place in ((found["url"], "h1"), (f"{found['url']}/remove", ".name")):
        page.goto(address)
        inner = page.locator(f"{place} bdi")
        assert inner.text_content() == name
        assert inner.evaluate("one => getComputedStyle(one).direction") == "rtl"
