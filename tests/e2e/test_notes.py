"""The short messages at the foot of a page: seen and read out everywhere, and in no hurry."""

import pytest

from tests.browser import until
from tests.e2e.uploads import choose, deletions, picture, signed_in, uploaded
from tests.pictures import encoded, make_image

pytestmark = pytest.mark.browser

PNG = encoded(make_image("RGB", (600, 450)), "PNG")
FOCUSED = "document.activeElement.id"
SEEN = """words => [...document.querySelectorAll(".note-line")].some((note) => {
    const box = note.getBoundingClientRect();
    return note.textContent.includes(words) && note.contains(document.elementFromPoint(box.x + 5, box.y + 5));
})"""


def test_they_have_a_place_before_the_first_comes(visit, server, key):
    page = visit()
    signed_in(page, server, key)
    found = server.must_upload(PNG, key=key)
    for address in (server.base, found["url"], f"{server.base}/dashboard/account"):
        page.goto(address)
        page.locator(".notes[role=status]").wait_for(state="attached")
        assert page.locator(".note-line").count() == 0


def test_they_are_seen_while_a_dialog_is_open_and_after(visit, server, key):
    found = server.must_upload(PNG, key=key)
    page = visit()
    page.goto(found["url"])
    page.keyboard.press("z")
    page.locator("#lens[open]").wait_for()
    page.keyboard.press("c")
    until(page, SEEN, "Link copied.")
    page.keyboard.press("?")  # one dialog over the other
    page.locator("#keys[open]").wait_for()
    until(page, SEEN, "Link copied.")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.locator("#lens").wait_for(state="hidden")
    until(page, SEEN, "Link copied.")


@pytest.mark.parametrize("held_by", ["focus", "pointer"])
def test_one_that_is_about_to_be_used_stays(visit, server, held_by):
    page = visit()
    page.clock.install()
    page.goto(server.base)
    sent = deletions(page)
    choose(page, picture("a.png", PNG))
    uploaded(page)
    page.get_by_role("button", name="Delete a.png").click()
    undo = page.get_by_role("button", name="Undo")
    undo.focus()
    undo.hover()
    if held_by == "focus":
        page.mouse.move(0, 0)
    else:
        undo.blur()
    page.clock.run_for(20_000)
    assert sent == []
    if held_by == "focus":
        undo.blur()
    else:
        page.mouse.move(0, 0)
    with page.expect_response("**/v1/media/*"):
        page.clock.run_for(10_000)
    assert undo.count() == 0


def test_the_focus_goes_back_to_where_it_was(visit, server, key):
    found = server.must_upload(PNG, key=key)
    page = visit()
    signed_in(page, server, key)
    page.goto(found["url"])
    page.locator("#delete").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Undo").focus()
    page.keyboard.press("Enter")
    page.get_by_text("The picture is kept.").wait_for()
    until(page, f"{FOCUSED} === 'delete'")
    page.goto(server.base)
    choose(page, picture("a.png", PNG))
    uploaded(page)
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="Delete a.png").press("Enter")  # the only one: its list is hidden until it is back
    page.get_by_role("button", name="Undo").focus()
    page.keyboard.press("Enter")
    page.locator(".card", has_text="a.png").wait_for()
    until(page, "document.activeElement.matches('.recent')")
