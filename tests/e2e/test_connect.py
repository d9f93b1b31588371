"""The pages that connect other programs, in a real browser: choose, make a key, use what they give, see it arrive."""

import json
import re
import threading
import time

import pytest

from imgpro.integrations.programs import PROGRAMS
from tests.axe import serious
from tests.browser import LAN, until
from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, bearer, running

pytestmark = pytest.mark.browser

PNG = encoded(make_image("RGB", (64, 48)), "PNG")
SECRET = re.compile(r"img_live_[0-9A-Za-z]{32}")
PAGE = "dashboard/connect"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(
        tmp_path_factory.mktemp("connect") / "data", {**UNLIMITED, "IMGPRO_PAGES_SITE_NAME": "Ann & <Bob>"}
    ) as found:
        yield found


@pytest.fixture
def key(server, request):
    """The key of an account of this test's own."""
    return server.new_key(f"{abs(hash(request.node.name))}@example.org")


def sign_in(page, base, key, path=PAGE):
    """Go to a page that needs a session: the way leads through the form and back."""
    page.goto(f"{base}/{path}")
    page.get_by_label("Your API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{base}/{path}")


def connect(page, base, key, program):
    """Make a key for a program; return the secret."""
    sign_in(page, base, key, f"{PAGE}/{program}")
    page.get_by_role("button", name="key for").click()
    page.locator("#secret").wait_for(state="attached")
    return page.locator("#secret").input_value()


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def keys_of(server, key):
    return server.api("GET", "/v1/keys", key=key).json()["data"]


def test_from_the_list_to_the_first_picture(visit, server, key):
    page = visit()
    sign_in(page, server.base, key)
    assert page.get_by_role("heading", name="Connect a program").is_visible()
    assert page.locator(".programs a").count() == len(PROGRAMS)
    page.get_by_role("link", name="ShareX").click()
    assert page.locator(".steps li").first.inner_text().startswith("Download 127.0.0.1.sxcu")
    assert len(keys_of(server, key)) == 1  # looking makes nothing
    page.get_by_role("button", name="Make a key for ShareX").click()
    page.get_by_text("Waiting for your first upload").wait_for()
    with page.expect_download() as caught:
        page.get_by_role("button", name="Download 127.0.0.1.sxcu").click()
    assert caught.value.suggested_filename == "127.0.0.1.sxcu"
    config = json.loads(open_text(caught.value.path()))
    secret = page.locator("#secret").input_value()
    assert config["Headers"] == {"Authorization": f"Bearer {secret}"}
    assert config["Name"] == f"Ann & <Bob> (127.0.0.1:{server.port})"
    made = next(one for one in keys_of(server, key) if one["name"] == "ShareX")
    assert made["abilities"] == ["upload"]

    # A picture by another key is not what the page waits for.
    asked = []
    page.on("response", lambda response: asked.append(response.url) if "/arrived?" in response.url else None)
    other = server.must_upload(PNG, "other.png", key=key)
    deadline = time.monotonic() + 10
    while not asked and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    assert asked, "the page did not ask after an event"
    assert page.get_by_text("Waiting for your first upload").is_visible()
    found = server.must_upload(PNG, "first <b>.png", key=secret)
    page.get_by_text("Connected. Your first upload is here.").wait_for(timeout=4_000)  # before it would ask by itself
    picture = page.locator("#arrival a")
    assert picture.inner_text() == "first <b>.png"
    until(page, "document.querySelector('#arrival img').naturalWidth > 0")
    assert serious(page) == []
    picture.click()
    page.wait_for_url(f"{server.base}/{found['id']}")
    assert other["id"] != found["id"]


def open_text(path):
    return path.read_text(encoding="utf-8")


def test_a_first_upload_is_seen_without_events(visit, server, key):
    page = visit(width=390, height=844)
    page.add_init_script("delete window.EventSource")
    secret = connect(page, server.base, key, "curl")
    page.get_by_text("Waiting for your first upload").wait_for()
    server.must_upload(PNG, "polled.png", key=secret)
    page.get_by_text("polled.png").wait_for(timeout=12_000)


def test_on_a_phone_over_a_plain_lan_name(visit, server, key):
    """No secure context; another name than links start with."""
    page = visit(width=390, height=844)
    base = server.base.replace("127.0.0.1", LAN)
    secret = connect(page, base, key, "obsidian")
    assert not page.evaluate("isSecureContext")
    assert not page.locator(".caution").is_visible()
    address = page.get_by_role("textbox", name="PicGo server").input_value()
    assert address == f"{base}/upload?key={secret}&tags=obsidian"
    page.get_by_role("button", name="Copy PicGo server").click()
    page.get_by_text("Copied.", exact=True).wait_for()
    page.evaluate(
        """() => { const area = document.createElement("textarea"); area.id = "paste"; document.body.append(area); area.focus(); }"""
    )
    page.keyboard.press("Control+V")
    assert page.locator("#paste").input_value() == address
    assert fits(page)
    server.must_upload(PNG, "lan.png", key=secret)
    page.get_by_text("lan.png").wait_for()
    until(page, "document.querySelector('#arrival img').naturalWidth > 0")


def test_the_code_opens_a_page_for_the_phone(visit, server, key):
    page = visit()
    base = server.base.replace("127.0.0.1", LAN)
    secret = connect(page, base, key, "shortcut")
    code = page.get_by_role("img", name="QR code")
    assert code.get_attribute("src").startswith("data:image/svg+xml")
    assert code.evaluate("image => image.complete && image.naturalWidth > 0")
    phone = visit(width=390, height=844)
    asked = []
    phone.on("request", lambda request: asked.append(request.url))
    phone.goto(f"{base}/{PAGE}/shortcut/phone#{secret}")
    until(phone, "!document.querySelector('[data-without-key]')")
    assert phone.evaluate("location.href") == f"{base}/{PAGE}/shortcut/phone"
    assert (
        phone.get_by_role("textbox", name="The address").input_value()
        == f"{base}/v1/upload?key={secret}&link=src&tags=phone"
    )
    assert all(secret not in url.partition("#")[0] for url in asked)
    assert fits(phone)
    assert serious(phone) == []
    phone.goto("about:blank")
    phone.goto(f"{base}/{PAGE}/shortcut/phone#<b>")
    assert phone.get_by_text("The key is missing").is_visible()
    assert "YOUR_KEY" in phone.get_by_role("textbox", name="The address").input_value()


def test_without_script(visit, server, key):
    page = visit(script=False, width=390, height=844)
    secret = connect(page, server.base, key, "flameshot")
    with page.expect_download() as caught:
        page.get_by_role("button", name="Download imgpro-flameshot").click()
    script = open_text(caught.value.path())
    assert script.startswith("#!/bin/sh\n")
    assert secret in script
    assert page.get_by_role("heading", name="Not there yet").is_visible()
    page.get_by_role("button", name="Check again").click()
    assert page.locator("#secret").input_value() == secret
    assert page.get_by_role("heading", name="Not there yet").is_visible()
    server.must_upload(PNG, "plain.png", key=secret)
    page.get_by_role("button", name="Check again").click()
    assert page.get_by_role("heading", name="Connected").is_visible()
    assert page.locator("#arrival a").inner_text() == "plain.png"
    assert len(keys_of(server, key)) == 2  # looking again made none


def test_an_earlier_key_goes_on_until_it_is_revoked(visit, server, key):
    page = visit()
    first = connect(page, server.base, key, "typora")
    page.goto(f"{server.base}/{PAGE}")
    assert page.get_by_role("link", name="Typora").get_by_text("has a key").is_visible()
    page.get_by_role("link", name="Typora").click()
    page.get_by_role("button", name="Make another key for Typora").click()
    page.locator("#secret").wait_for(state="attached")
    second = page.locator("#secret").input_value()
    assert first != second
    assert [server.upload(PNG, key=one).status for one in (first, second)] == [201, 201]
    page.get_by_role("button", name="Revoke Typora").click()
    page.get_by_role("heading", name="Revoke the key “Typora”?").wait_for()
    page.get_by_role("button", name="Revoke").click()
    page.wait_for_url(f"{server.base}/{PAGE}/typora")
    assert [server.upload(PNG, key=one).status for one in (first, second)] == [401, 201]
    assert page.get_by_text("Typora (2)").is_visible()


class TestLimit:
    @pytest.fixture
    def server(self, tmp_path):
        with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_ACCOUNTS_KEYS": "2"}) as found:
            yield found

    def test_a_key_limit_is_told_with_the_way_out(self, visit, server, key):
        page = visit(expected=(403,))
        connect(page, server.base, key, "curl")
        page.goto(f"{server.base}/{PAGE}/curl")
        page.get_by_role("button", name="Make another key for curl").click()
        told = page.get_by_role("alert").inner_text()
        assert "This account has as many keys as it may have." in told
        assert "Revoke a key in the dashboard first." in told
        assert page.get_by_role("button", name="Revoke curl").is_visible()
        assert serious(page) == []
        page.get_by_role("link", name="See your keys").click()
        page.wait_for_url(re.compile("dashboard/account"))


def test_a_session_that_ends_is_told(visit, server, key):
    page = visit(expected=(401,))
    connect(page, server.base, key, "picgo")
    page.get_by_text("Waiting for your first upload").wait_for()
    server.operate("block", email=email_of(server, key))
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.get_by_text("You are not signed in any more.").wait_for()
    assert page.get_by_role("button", name="Check again").is_visible()


def email_of(server, key):
    (row,) = [
        row
        for row in server.operate("list")["accounts"]
        if any(one["id"] == keys_of(server, key)[0]["key_id"] for one in row["keys"])
    ]
    return row["email"]


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (390, "dark"), (1440, "light")])
def test_every_page_fits_and_is_usable_by_everybody(visit, server, key, scheme, width):
    page = visit(width=width, height=844, color_scheme=scheme)
    sign_in(page, server.base, key)
    assert fits(page)
    assert serious(page) == []
    for program in PROGRAMS:
        page.goto(f"{server.base}/{PAGE}/{program.name}")
        assert fits(page), program.name
        page.get_by_role("button", name="Make a key for").click()
        page.locator("#secret").wait_for(state="attached")
        for details in page.locator("details").all():
            details.evaluate("node => node.open = true")
        assert fits(page), program.name
        assert serious(page) == [], program.name
        assert page.evaluate(WEIGHT) < 60_000


WEIGHT = """() => [...performance.getEntriesByType("resource"), ...performance.getEntriesByType("navigation")]
    .filter((one) => !/\\/t\\/|favicon|icon-|events/.test(one.name)).reduce((sum, one) => sum + one.decodedBodySize, 0)"""


def test_by_keyboard(visit, server, key):
    page = visit()
    connect(page, server.base, key, "curl")
    page.get_by_role("button", name="Copy One file").focus()
    page.keyboard.press("Enter")
    page.get_by_text("Copied.", exact=True).wait_for()
    page.locator("summary").last.focus()
    page.keyboard.press("Enter")
    assert page.locator("#secret").is_visible()


# What no page of ours sends


@pytest.fixture
def session(server, key):
    answer = server.request(
        "POST", "/dashboard/sign-in", f"key={key}".encode(), {"Content-Type": "application/x-www-form-urlencoded"}
    )
    return answer.headers["Set-Cookie"].partition(";")[0]


def post(server, session, path, csrf, **fields):
    body = "&".join(f"{name}={value}" for name, value in {"csrf": csrf, **fields}.items()).encode()
    headers = {"Cookie": session, "Content-Type": "application/x-www-form-urlencoded", "Origin": server.base}
    return server.request("POST", f"/{PAGE}{path}", body, headers)


def csrf_of(server, session):
    page = server.request("GET", f"/{PAGE}/curl", headers={"Cookie": session}).body.decode()
    return re.search(r'name="csrf" value="([^"]+)"', page)[1]


def test_forms_of_others_are_refused(server, session, key):
    csrf = csrf_of(server, session)
    for path in ("/curl", "/curl/file", "/curl/revoke"):
        assert post(server, session, path, "wrong", key=key, key_id="key_x").status == 403
        assert post(server, "", path, csrf, key=key, key_id="key_x").status == 401
        foreign = {
            "Cookie": session,
            "Origin": "https://evil.example",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        assert server.request("POST", f"/{PAGE}{path}", f"csrf={csrf}".encode(), foreign).status == 403
    assert len(keys_of(server, key)) == 1


def test_no_key_but_one_made_here_is_put_into_a_file(server, session, key):
    csrf = csrf_of(server, session)
    stranger = server.new_key("stranger@example.org")
    theirs = server.api("POST", "/v1/keys", {"abilities": ["upload"]}, key=stranger).json()["key"]
    for wrong in (key, theirs, "img_live_" + "x" * 32, "", "x" * 500):
        for path in ("/sharex/file", "/sharex"):
            answer = post(server, session, path, csrf, key=wrong, name="127.0.0.1.sxcu")
            assert answer.status == 403
            assert not wrong or wrong.encode() not in answer.body
    mine = SECRET.search(post(server, session, "/sharex", csrf).body.decode())[0]
    answer = post(server, session, "/sharex/file", csrf, key=mine, name="127.0.0.1.sxcu")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="127.0.0.1.sxcu"'
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert post(server, session, "/sharex/file", csrf, key=mine, name="other").status == 404
    assert post(server, session, "/nothing", csrf).status == 404
    made = next(one for one in keys_of(server, key) if one["name"] == "ShareX")
    assert made["last_used_at"] is None  # a download is no use of it
    assert (
        server.request("GET", f"/{PAGE}/sharex/arrived?key_id={made['key_id']}", headers=bearer(stranger)).status == 401
    )
    answer = server.request("GET", f"/{PAGE}/sharex/arrived?key_id={made['key_id']}", headers={"Cookie": session})
    assert answer.json() == {"picture": None}
    assert server.request("GET", f"/{PAGE}/sharex/arrived?key_id=key_x", headers={"Cookie": session}).status == 404


def test_strangers_are_led_to_the_way_in(server):
    for path in ("", "/sharex"):
        answer = server.get(f"/{PAGE}{path}")
        assert answer.status == 303
        assert f"next=/{PAGE}{path}" in answer.headers["Location"]
    assert server.get(f"/{PAGE}/nothing").status == 404
    assert server.get(f"/{PAGE}/sharex/phone").status == 404
    assert server.get(f"/{PAGE}/shortcut/phone").status == 200


def test_parallel_buttons_make_names_that_can_be_told_apart(server, session, key):
    csrf = csrf_of(server, session)
    threads = [threading.Thread(target=post, args=(server, session, "/mcp", csrf)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = [one["name"] for one in keys_of(server, key) if one["name"].startswith("MCP")]
    assert len(names) == 3
    post(server, session, "/mcp", csrf)
    assert (
        len({one["name"] for one in keys_of(server, key)} - set(names)) == 2
    )  # the account's first key and a new name
