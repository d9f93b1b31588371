"""The pages about accounts in a real browser: claim, join, confirm, upgrade, sign in; with script and without."""

import re

import pytest

from tests.browser import LAN
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
    (row,) = [row for row in server.operate("list")["accounts"] if row["email"] == email]
    return row["links"][-1]


def shown_key(page):
    return KEY.search(page.locator("pre").first.inner_text())[0]


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
    page.get_by_role("link", name="Open the dashboard").click()
    assert page.get_by_role("heading", name="op@example.org").is_visible()
    assert no_overflow(page) if script else True


def test_on_a_plain_lan_name(visit, server):
    """No secure context, and forms are sent from another name than links start with."""
    page = visit(width=390, height=844)
    page.goto(re.search(r"http://\S+/setup\?t=\w+", server.log())[0].replace("127.0.0.1", LAN))
    page.get_by_label("Your mail address").fill("op@example.org")
    page.get_by_role("button", name="Make the account").click()
    key = shown_key(page)
    page.get_by_role("link", name="Open the dashboard").click()
    page.get_by_role("button", name="Sign out everywhere").click()
    page.get_by_label("Your API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    assert page.get_by_role("heading", name="op@example.org").is_visible()


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


def test_signing_in_making_and_revoking_a_key(visit, server):
    key = server.new_key("ann@example.org")
    page = visit(expected=(401,))
    page.goto(f"{server.base}/dashboard")
    page.get_by_label("Your API key").fill("img_live_" + "x" * 32)
    page.get_by_role("button", name="Sign in").click()
    assert page.get_by_role("alert").inner_text() == "The API key is not valid."
    page.get_by_label("Your API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Name").fill("Phone")
    page.get_by_label("It may").select_option("only upload")
    page.get_by_role("button", name="Make a key").click()
    made = shown_key(page)
    assert server.upload(PNG, key=made).status == 201
    page.get_by_role("button", name="Revoke Phone").click()
    page.wait_for_load_state()
    assert not page.get_by_text("Phone").is_visible()
    assert server.upload(PNG, key=made).status == 401
    cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
    assert cookies["imgpro_session"]["httpOnly"]
    assert cookies["imgpro_session"]["sameSite"] == "Lax"
    page.get_by_role("button", name="Sign out", exact=True).click()
    assert page.get_by_role("heading", name="Sign in").is_visible()


def test_the_owner_sees_a_private_picture_when_signed_in(visit, server):
    key = server.new_key("ann@example.org")
    found = server.must_upload(PNG, key=key, public="false")
    page = visit(expected=(404,))
    assert page.goto(found["url"]).status == 404
    page.goto(f"{server.base}/dashboard")
    page.get_by_label("Your API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="ann@example.org").wait_for()
    assert page.goto(found["url"]).status == 200
    page.wait_for_function("document.querySelector('.shown').naturalWidth > 0")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_by_keyboard_and_without_overflow(visit, server, scheme):
    server.api("POST", "/v1/keys", {"email": "ann@example.org", "name": "x" * 60})
    server.api("POST", "/v1/keys", {"email": "ann@example.org", "name": "y y " * 20})
    invitation = server.operate("invite")["link"]
    for width in (320, 1440):
        page = visit(width=width, height=700, color_scheme=scheme)
        for link in (f"{server.base}/dashboard", mailed_link(server), invitation):
            page.goto(link)
            assert no_overflow(page), (link, width)
            page.keyboard.press("Tab")
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement !== document.body")
