"""The operator's pages in a real browser: at a glance, deciding, blocking, deleting, with script and without."""

import re

import pytest

from tests import axe
from tests.browser import LAN, until
from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, running

pytestmark = pytest.mark.browser

PNG = encoded(make_image("RGB", (64, 48)), "PNG")


@pytest.fixture
def server(tmp_path):
    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_PLANS_FREE_UPLOADS": "1"}) as found:
        yield found


def claim(page, server, host="127.0.0.1"):
    page.goto(re.search(r"http://\S+/setup\?t=\w+", server.log())[0].replace("127.0.0.1", host))
    page.get_by_label("Your mail address").fill("op@example.org")
    page.get_by_role("button", name="Make the account").click()
    page.get_by_role("link", name="Operator", exact=True).click()


def ask_for_pro(server, key):
    path, _, query = server.upload(PNG, key=key).json()["action"]["url"].removeprefix(server.base).partition("?")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert server.request("POST", path, query.encode(), form).status == 200


def account_page(page, server, email):
    page.get_by_role("link", name="Accounts", exact=True).click()
    page.get_by_label("Part of an address").fill(email[:6])
    page.get_by_role("button", name="Find").click()
    page.get_by_role("link", name=email).click()
    page.get_by_role("heading", name=email).wait_for()


def no_overflow(page):
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("size", [(390, 844), (1440, 900)])
def test_how_full_the_disk_is_is_seen_at_once(visit, server, size):
    page = visit(width=size[0], height=size[1])
    claim(page, server)
    words = page.get_by_text(
        re.compile(r"[\d.]+ [KMGT]B free of [\d.]+ [KMGT]B; imgpro uses [\d.]+ [KM]B; at this rate")
    )
    bar = page.get_by_role("img", name=re.compile("The disk: imgpro .*, other things .*, free .*"))
    for place in (words, bar):
        box = place.bounding_box()
        assert box["y"] + box["height"] < size[1] * 0.75, "on the first screen"
    # What is drawn is what is said.
    drawn = bar.locator("rect").evaluate_all("all => all.map((one) => one.getBoundingClientRect().width)")
    assert drawn[0] > drawn[1] >= drawn[2]


@pytest.mark.parametrize("script", [True, False])
def test_deciding_about_plans_and_addresses(visit, server, script):
    page = visit(script=script)
    claim(page, server)
    ann, bob = server.new_key("ann@example.org"), server.new_key("bob@example.org")
    for key in (ann, bob):
        server.must_upload(PNG, key=key)
        ask_for_pro(server, key)
    new = server.api("POST", "/v1/keys", {"email": "new@example.org", "name": "phone"}).json()["key"]
    page.reload()
    page.get_by_role("button", name="Approve Pro for ann@example.org").click()
    page.get_by_text("The plan is granted.").wait_for()
    page.get_by_role("button", name="Decline Pro for bob@example.org").click()
    page.get_by_text("The request is turned down.").wait_for()
    assert [server.api("GET", "/v1/usage", key=key).json()["plan"] for key in (ann, bob)] == ["pro", "free"]
    page.get_by_role("link", name="Decide about new@example.org").click()
    assert page.get_by_role("checkbox", name="phone").is_checked()
    page.get_by_role("button", name="Confirm the address").click()
    page.get_by_text("The address is confirmed.").wait_for()
    assert server.api("GET", "/v1/usage", key=new).json()["verified"] is True
    page.get_by_role("combobox", name="Plan").select_option("scale")
    page.get_by_role("button", name="Change the plan").click()
    page.get_by_text("The plan is changed.").wait_for()
    assert server.api("GET", "/v1/usage", key=new).json()["plan"] == "scale"


@pytest.mark.parametrize("script", [True, False])
def test_blocking_and_deleting_is_asked_and_typed(visit, server, script):
    page = visit(script=script, expected=(422,))
    claim(page, server)
    key = server.new_key("mallory@example.org")
    image = server.must_upload(PNG, key=key)
    account_page(page, server, "mallory@example.org")
    cancel = page.get_by_role("button" if script else "link", name="Cancel")
    page.get_by_role("button", name="Block", exact=True).click()
    page.get_by_role("heading", name="Block mallory@example.org?").wait_for()
    cancel.click()
    assert server.api("GET", "/v1/usage", key=key).status == 200
    page.get_by_role("button", name="Block", exact=True).click()
    page.get_by_role("heading", name="Block mallory@example.org?").wait_for()
    page.get_by_role("button", name="Block", exact=True).last.click()
    page.get_by_text("The account is blocked.").wait_for()
    assert server.api("GET", "/v1/usage", key=key).status == 403
    page.get_by_role("button", name="Delete all its pictures").click()
    typed = page.get_by_label("To go on, type mallory@example.org")
    delete = page.get_by_role("button", name=re.compile("Delete all( its pictures)?")).last
    if script:
        assert delete.is_disabled()
    else:
        typed.fill("somebody@else.example")
        delete.click()
        page.get_by_role("alert").wait_for()
    assert server.get(image["src"]).status == 200
    typed.fill("mallory@example.org")
    delete.click()
    page.get_by_text("The pictures are deleted.").wait_for()
    assert server.get(image["src"]).status == 404
    page.get_by_role("button", name="Let in again").click()
    page.get_by_role("button", name="Let in", exact=False).last.click()
    page.get_by_text("The account is let in again.").wait_for()
    assert server.api("GET", "/v1/usage", key=key).status == 200


def test_what_came_lately_is_seen_and_deleted(visit, server):
    key = server.new_key("ann@example.org")
    shown = server.must_upload(PNG, "shown.png")
    server.must_upload(PNG, "hush.png", key=key, public="false")
    page = visit()
    claim(page, server)
    picture = page.get_by_role("img", name="shown.png")
    picture.scroll_into_view_if_needed()
    until(page, "[...document.querySelectorAll('.tiles img')].every((one) => one.naturalWidth > 0)")
    assert page.get_by_text("hush.png").count() == 0
    page.get_by_role("checkbox", name="Delete shown.png").check()
    page.get_by_role("button", name="Delete chosen pictures").click()
    page.get_by_role("heading", name="Delete what is chosen?").wait_for()
    page.keyboard.press("Escape")
    assert server.get(shown["src"]).status == 200
    page.get_by_role("button", name="Delete chosen pictures").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_text("The pictures are deleted.").wait_for()
    assert server.get(shown["src"]).status == 404


def test_an_invitation_from_a_plain_lan_name(visit, server):
    page = visit(width=390, height=844)
    claim(page, server, LAN)
    page.get_by_role("link", name="Accounts", exact=True).click()
    page.get_by_role("button", name="Make a link").click()
    link = page.get_by_label("Link", exact=True).input_value()
    assert link.startswith(f"http://{LAN}:")
    assert page.get_by_role("img", name="The link as a QR code").bounding_box()["width"] > 150
    page.get_by_role("button", name="Copy").click()
    page.get_by_role("status").get_by_text("Copied.").wait_for()
    assert axe.serious(page) == []
    other = visit()
    other.goto(link)
    other.get_by_label("Your mail address").fill("ann@example.org")
    other.get_by_role("button", name="Get a key").click()
    assert other.get_by_role("heading", name="Your key").is_visible()


def test_numbers_follow_what_happens(visit, server):
    page = visit()
    page.clock.install()
    claim(page, server)
    place = page.locator("#storage dd").first
    assert "0 pictures" in place.inner_text()
    server.must_upload(PNG)
    page.clock.fast_forward(25_000)
    until(page, "document.querySelector('#storage dd').innerText.includes('1 picture')")
    assert page.locator("#disk").count() == 1


def test_a_backup_is_a_press_of_a_button_and_its_end_is_seen(visit, server):
    server.must_upload(PNG, "one.png")
    page = visit()
    claim(page, server)
    card = page.locator("#backups")
    assert "None yet" in card.inner_text()
    assert "on the same disk as the pictures" in card.inner_text()
    assert card.get_by_role("button", name="Verify now").is_disabled()
    # Something else is in the way: the page tells how it ended, without a reload.
    folder = server.data / "backups" / "repository"
    folder.write_bytes(b"")
    card.get_by_role("button", name="Back up now").click()
    page.locator("#worries").get_by_text("The last backup failed").wait_for(timeout=60_000)
    folder.unlink()
    card.get_by_role("button", name="Back up now").click()
    card.get_by_text("1 of at most 7 are there").wait_for(timeout=60_000)
    until(page, "document.querySelectorAll('#worries p').length === 0")
    assert card.get_by_role("button", name="Verify now").is_enabled()


def test_the_log_is_read_again(visit, server):
    page = visit()
    claim(page, server)
    page.get_by_role("link", name="Log", exact=True).click()
    server.api("POST", "/v1/keys", {"email": "ann@example.org"})
    page.get_by_role("button", name="Reload").or_(page.get_by_role("link", name="Reload")).click()
    page.get_by_text(re.compile("hand this link to ann@example.org")).wait_for()
    page.get_by_role("link", name="Show only warnings").click()
    assert page.get_by_text(re.compile("hand this link to ann@example.org")).is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_part_is_clean_and_fits(visit, server, scheme):
    for number in range(5):
        server.api("POST", "/v1/keys", {"email": f"{'long' * 12}{number}@{'department' * 5}.example.org"})
    blocked = server.new_key("blocked@example.org")
    server.must_upload(PNG, key=blocked)
    server.operate("block", email="blocked@example.org")
    narrow = visit(width=320, height=700, color_scheme=scheme)
    claim(narrow, server)
    link = server.operate("sign-in-link", email="op@example.org")["link"]
    wide = visit(width=1440, height=900, color_scheme=scheme)
    wide.goto(link)
    wide.get_by_role("button", name="Sign in").click()
    rows = {row["email"][:4]: row["id"] for row in server.operate("list")["accounts"]}
    places = ["", "/accounts", "/settings", "/log", f"/accounts/{rows['long']}", f"/accounts/{rows['bloc']}"]
    for page in (narrow, wide):
        for place in places:
            page.goto(f"{server.base}/operator{place}")
            for folded in page.locator("summary").all():
                folded.click()
            assert no_overflow(page), (place, page.viewport_size)
            assert axe.serious(page) == [], (place, page.viewport_size)
            weights = page.evaluate(
                "performance.getEntriesByType('resource').map((one) => [one.name, one.decodedBodySize])"
            )
            weight = sum(size for name, size in weights if re.search(r"\.(css|js)$", name))
            assert weight + len(page.content()) < 60_000 or place == "/settings", place
