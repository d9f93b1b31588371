"""The pages about accounts in a real browser: claim, join, confirm, upgrade, sign in; with script and without."""

import re
import time

import pytest

from tests import axe
from tests.browser import LAN, until
from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, running

pytestmark = pytest.mark.browser

PNG = encoded(make_image("RGB", (64, 48)), "PNG")
KEY = re.compile(r"img_live_[0-9A-Za-z]{32}")


@pytest.fixture
def server(tmp_path):
    env = {**UNLIMITED, "IMGPRO_PLANS_FREE_UPLOADS": "1", "IMGPRO_PLANS_UPGRADE": "self_service"}
    with running(tmp_path / "data", env) as found:
        yield found


def mailed_link(server, email="ann@example.org"):
    """Return the newest link that waits to be handed to somebody, "" where none does."""
    (row,) = [row for row in server.operate("list")["accounts"] if row["email"] == email]
    return next(reversed(row["links"]), "")


def shown_key(page, label="Your key"):
    return KEY.search(page.get_by_label(label, exact=True).input_value())[0]


def sign_in(page, server, key, wanted="/dashboard/account"):
    page.goto(f"{server.base}/dashboard/sign-in?next={wanted}")
    page.get_by_label("Your API key").fill(key)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url(f"**{wanted}")


def no_overflow(page):
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("script", [True, False])
def test_claiming_a_new_server(visit, server, script):
    page = visit(script=script, width=390, height=844)
    page.goto(re.search(r"http://\S+/setup\?t=\w+", server.log())[0])
    page.get_by_label("Your mail address").fill("op@example.org")
    page.get_by_role("button", name="Make the account").click()
    assert page.get_by_role("heading", name="Your key").is_visible()
    key = shown_key(page)
    assert server.api("GET", "/v1/usage", key=key).json()["plan"] == "operator"
    assert axe.serious(page) == [] if script else True
    page.get_by_role("link", name="See how the server does").click()  # signed in already
    assert page.get_by_text("Nothing waits for you.").is_visible()
    page.get_by_role("link", name="Account", exact=True).click()
    assert page.get_by_role("heading", name="op@example.org").is_visible()
    assert no_overflow(page) if script else True


def test_on_a_plain_lan_name(visit, server):
    """No secure context, and forms are sent from another name than links start with."""
    page = visit(width=390, height=844)
    page.goto(re.search(r"http://\S+/setup\?t=\w+", server.log())[0].replace("127.0.0.1", LAN))
    page.get_by_label("Your mail address").fill("op@example.org")
    page.get_by_role("button", name="Make the account").click()
    key = shown_key(page)
    page.get_by_role("button", name="Copy").click()  # no clipboard API here
    assert page.get_by_role("status").get_by_text("Copied.").is_visible()
    page.get_by_role("link", name="Account", exact=True).click()
    page.get_by_role("button", name="Sign out everywhere").click()
    page.get_by_label("Your API key").fill(key)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_role("link", name="Account", exact=True).click()
    assert page.get_by_role("heading", name="op@example.org").is_visible()
    link = server.operate("sign-in-link", email="op@example.org")["link"]
    other = visit()
    other.goto(link.replace("127.0.0.1", LAN))
    other.get_by_role("button", name="Sign in").click()
    other.get_by_role("link", name="Operator").click()
    assert other.get_by_text("Nothing waits for you.").is_visible()


def test_confirming_an_address_and_keeping_a_key(visit, server):
    kept = server.api("POST", "/v1/keys", {"email": "ann@example.org", "name": "phone"}).json()["key"]
    dropped = server.api("POST", "/v1/keys", {"email": "ann@example.org", "name": "<b>thief</b>"}).json()["key"]
    mine = server.api("POST", "/v1/keys", {"email": "ann@example.org", "name": "laptop"}).json()["key"]
    page = visit(width=390, height=844)
    page.goto(mailed_link(server))
    boxes = page.get_by_role("checkbox")
    assert [box.is_checked() for box in boxes.all()] == [False, False]
    assert page.get_by_text("<b>thief</b>").is_visible()
    page.get_by_role("checkbox", name="phone").check()
    assert no_overflow(page)
    page.get_by_role("button", name="Yes, it is mine").click()
    assert page.get_by_role("heading", name="The address is confirmed").is_visible()
    assert [server.api("GET", "/v1/usage", key=key).status for key in (mine, kept, dropped)] == [200, 200, 401]


def test_saying_that_it_was_somebody_else(visit, server):
    key = server.api("POST", "/v1/keys", {"email": "ann@example.org"}).json()["key"]
    page = visit(expected=(404,))
    link = mailed_link(server)
    page.goto(link)
    page.get_by_role("button", name="I did not ask for this").click()
    assert page.get_by_role("heading", name="The key is removed").is_visible()
    assert server.api("GET", "/v1/usage", key=key).status == 401
    page.goto(link)
    assert page.get_by_text("This link has ended").is_visible()


def test_an_upgrade_is_asked_once_more(visit, server):
    key = server.new_key("ann@example.org")
    server.must_upload(PNG, key=key)
    page = visit(width=390, height=844)
    page.goto(server.upload(PNG, key=key).json()["action"]["url"])
    assert page.get_by_text("1,000").is_visible()
    assert no_overflow(page)
    page.get_by_role("button", name="Upgrade to Pro").click()
    assert page.get_by_role("heading", name="The plan is Pro now").is_visible()
    assert server.upload(PNG, key=key).status == 201


@pytest.mark.parametrize("script", [True, False])
def test_signing_in_making_and_revoking_a_key(visit, server, script):
    key = server.new_key("ann@example.org")
    page = visit(expected=(401,), script=script)
    page.goto(f"{server.base}/dashboard/account")  # leads to the way in, and back
    page.get_by_label("Your API key").fill("img_live_" + "x" * 32)
    page.get_by_role("button", name="Sign in", exact=True).click()
    assert page.get_by_role("alert").inner_text() == "The API key is not valid."
    page.get_by_label("Your API key").fill(key)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url("**/dashboard/account")
    page.get_by_label("Name").fill("Phone")
    page.get_by_label("It may").select_option("only upload")
    page.get_by_label("Puts pictures into").fill("screenshots")
    page.get_by_role("button", name="Make a key").click()
    made = shown_key(page, "New key")
    assert page.get_by_text("into screenshots").is_visible()
    found = server.must_upload(PNG, key=made)
    assert server.api("GET", f"/v1/media/{found['id']}", key=key).json()["namespace"] == "screenshots"
    page.get_by_role("button", name="Revoke Phone").click()
    question = "Revoke the key “Phone”?"
    page.get_by_role("heading", name=question).wait_for()  # a dialog, or a page of its own
    assert server.upload(PNG, key=made).status in (201, 403)
    page.get_by_role("link" if not script else "button", name="Cancel").click()
    assert server.api("GET", "/v1/keys", key=key).json()["data"][-1]["name"] == "Phone"
    page.get_by_role("button", name="Revoke Phone").click()
    page.get_by_role("button", name="Revoke", exact=True).click()
    page.get_by_role("button", name="Revoke Phone").wait_for(state="detached")
    assert server.upload(PNG, key=made).status == 401
    cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
    assert cookies["imgpro_session"]["httpOnly"]
    assert cookies["imgpro_session"]["sameSite"] == "Lax"
    page.get_by_role("button", name="Sign out", exact=True).click()
    assert page.get_by_role("heading", name="Sign in").is_visible()


def test_asking_for_a_link_and_signing_in_by_it(visit, server):
    server.new_key("ann@example.org")
    page = visit(width=390, height=844)
    page.goto(f"{server.base}/dashboard")
    page.get_by_label("Your mail address").fill("ann@example.org")
    page.get_by_role("button", name="Ask for a link").click()
    assert page.get_by_role("heading", name="Ask the operator for your link").is_visible()
    page.goto(wait_for_link(server))
    assert page.get_by_text("ann@example.org").is_visible()
    assert axe.serious(page) == []
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Account", exact=True).click()
    assert page.get_by_text("By a link since").is_visible()


def wait_for_link(server):
    deadline = time.monotonic() + 10
    while "/sign-in?" not in mailed_link(server) and time.monotonic() < deadline:
        time.sleep(0.05)
    return mailed_link(server)


def test_signing_out_leaves_nothing_of_the_gallery(visit, server):
    key = server.new_key("ann@example.org")
    server.must_upload(PNG, "secret.png", key=key)
    page = visit()
    sign_in(page, server, key, "/dashboard")
    page.locator(".tile").first.wait_for()
    page.get_by_role("link", name="Account", exact=True).click()
    page.get_by_role("heading", name="ann@example.org").wait_for()
    assert "secret.png" in page.evaluate("JSON.stringify(sessionStorage)")
    page.get_by_role("button", name="Sign out", exact=True).click()
    page.get_by_role("heading", name="Sign in").wait_for()
    until(page, "JSON.stringify(sessionStorage) === '{}'")


def test_signing_out_another_browser(visit, server):
    key = server.new_key("ann@example.org")
    first, second = visit(), visit()
    for page in (first, second):
        sign_in(page, server, key)
    first.reload()
    assert first.get_by_text("this browser").count() == 1
    first.get_by_role("button", name="Sign out Chrome on Linux").click()
    first.get_by_role("button", name="Sign out Chrome on Linux").wait_for(state="detached")
    second.reload()
    assert second.get_by_role("heading", name="Sign in").is_visible()


def test_what_is_used_and_what_plans_give(visit, server):
    key = server.new_key("ann@example.org")
    server.must_upload(PNG, key=key)
    page = visit(width=390, height=844)
    sign_in(page, server, key)
    bar = page.get_by_role("progressbar", name="Uploads this month: 1 of 1")
    assert bar.get_attribute("value") == "1"
    page.get_by_role("link", name="Choose Pro").click()
    page.get_by_role("button", name="Upgrade to Pro").click()
    page.goto(f"{server.base}/dashboard/account")
    assert page.get_by_text("1 of 1,000").is_visible()
    assert page.get_by_text("Plan Pro, address confirmed").is_visible()
    assert page.get_by_role("link", name="Choose Pro").count() == 0
    assert no_overflow(page)


def test_an_account_without_limits(visit, server):
    page = visit()
    page.goto(re.search(r"http://\S+/setup\?t=\w+", server.log())[0])
    page.get_by_label("Your mail address").fill("op@example.org")
    page.get_by_role("button", name="Make the account").click()
    page.get_by_role("link", name="Account", exact=True).click()
    assert page.get_by_text("0, no limit").is_visible()
    assert page.get_by_role("progressbar").count() == 0
    assert page.get_by_role("heading", name="Plans").count() == 0


def test_the_owner_sees_a_private_picture_when_signed_in(visit, server):
    key = server.new_key("ann@example.org")
    found = server.must_upload(PNG, key=key, public="false")
    page = visit(expected=(404,))
    assert page.goto(found["url"]).status == 404
    sign_in(page, server, key)
    page.get_by_role("heading", name="ann@example.org").wait_for()
    assert page.goto(found["url"]).status == 200
    until(page, "document.querySelector('.shown').naturalWidth > 0")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_by_keyboard_and_without_overflow(visit, server, scheme):
    server.api("POST", "/v1/keys", {"email": "ann@example.org", "name": "x" * 60})
    server.api("POST", "/v1/keys", {"email": "ann@example.org", "name": "y y " * 20})
    invitation = server.operate("invite")["link"]
    key = server.new_key("bob@example.org", name="x" * 60)
    for width in (320, 1440):
        page = visit(width=width, height=700, color_scheme=scheme)
        printed = server.operate("sign-in-link", email="bob@example.org")["link"]
        for link in (f"{server.base}/dashboard", mailed_link(server), invitation, printed, f"{server.base}/join"):
            page.goto(link)
            assert no_overflow(page), (link, width)
            assert axe.serious(page) == [], (link, width)
            page.keyboard.press("Tab")
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement !== document.body")
        sign_in(page, server, key)
        page.get_by_label("Name").fill("n" * 100)
        page.get_by_role("button", name="Make a key").click()
        shown_key(page, "New key")
        assert no_overflow(page)
        assert axe.serious(page) == []
