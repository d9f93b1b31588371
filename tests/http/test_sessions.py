"""Signing in by key and by link, where an account is signed in, and what pages tell those who are not."""

import asyncio
import re
import sqlite3
import time
from urllib.parse import urlencode

import pytest
from aiohttp import web

from imgpro.appliance import Appliance
from imgpro.settings import Settings, Storage
from imgpro.web import app
from imgpro.web.clients import Clients
from imgpro.web.pages import Templates
from imgpro.web.sessions import browser_words
from imgpro.web.sign_in import own_path
from tests.mailbox import link_in, mailbox
from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, running
from tests.signed_in import FORM, SignedIn, by_key, claimed, cookie_of

PNG = encoded(make_image("RGB", (64, 48)), "PNG")
HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("sessions") / "data", UNLIMITED) as found:
        yield found


@pytest.fixture(scope="module")
def operator(server):
    return claimed(server)


@pytest.fixture(scope="module")
def routed(tmp_path_factory):
    """Every method and path of the real router."""

    async def look():
        settings = Settings(storage=Storage(reserve_bytes=0))
        appliance = await Appliance.start(settings, tmp_path_factory.mktemp("routes") / "data", serving=False)
        try:
            made = web.Application()
            made.router.add_routes(app.routes(appliance, Clients("", ()), Templates("")))
            return sorted({(route.method, route.resource.canonical) for route in made.router.routes()})
        finally:
            await appliance.close()

    return asyncio.run(look())


def ask(server, email, **headers):
    return server.request(
        "POST", "/dashboard/sign-in/link", f"email={email}".encode(), {**FORM, "Origin": server.base, **headers}
    )


def waiting_link(server, email):
    (row,) = [row for row in server.operate("list")["accounts"] if row["email"] == email]
    return next(iter(link for link in row["links"] if "/sign-in?" in link), None)


def wait_for_link(server, email):
    deadline = time.monotonic() + 10
    while (link := waiting_link(server, email)) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert link is not None
    return link


def use(server, link, **headers):
    path, _, token = link.removeprefix(server.base).partition("?t=")
    return server.request("POST", path, f"t={token}".encode(), {**FORM, "Origin": server.base, **headers})


# By link


def test_a_mailed_link_signs_in_once(tmp_path):
    with mailbox() as box, running(tmp_path / "data", {**UNLIMITED, **box.settings()}) as server:
        server.new_key("ann@example.org")
        before = len(box.wait(1))
        assert ask(server, "Ann@Example.org").status == 202
        letter = box.wait(before + 1)[-1]
        assert letter["To"] == "ann@example.org"
        link = link_in(letter)
        second = use_another(server, box)
        for _ in range(2):
            page = server.get(link)  # looking at it uses nothing up
            assert page.status == 200
            assert b"ann@example.org" in page.body
            assert "Set-Cookie" not in page.headers
        answer = use(server, link)
        assert (answer.status, answer.headers["Location"]) == (303, "./dashboard")
        browser = SignedIn(server, cookie_of(answer))
        assert b"ann@example.org" in browser.get("/dashboard/account").body
        for gone in (link, second):  # used, and ended with it
            assert server.get(gone, **HTML).status == 404
            assert use(server, gone).status == 404


def use_another(server, box):
    before = len(box.letters)
    ask(server, "ann@example.org")
    return link_in(box.wait(before + 1)[-1])


def test_nobody_is_told_whose_addresses_are_known(tmp_path):
    with mailbox() as box, running(tmp_path / "data", {**UNLIMITED, **box.settings()}) as server:
        server.new_key("ann@example.org")
        server.new_key("unverified@example.org", verified=False)
        server.new_key("blocked@example.org")
        server.operate("block", email="blocked@example.org")
        sent = len(box.wait(3))
        answers = {
            email: ask(server, email)
            for email in ("nobody@example.org", "unverified@example.org", "blocked@example.org", "ann@example.org")
        }
        assert {answer.status for answer in answers.values()} == {202}
        assert len({answer.body.replace(email.encode(), b"") for email, answer in answers.items()}) == 1
        assert [letter["To"] for letter in box.wait(sent + 1)[sent:]] == ["ann@example.org"]
        time.sleep(0.5)
        assert len(box.letters) == sent + 1


def test_without_a_mail_server_the_operator_has_the_link(server, operator):
    server.new_key("link@example.org")
    answer = ask(server, "link@example.org")
    assert b"sends no mail" in answer.body
    link = wait_for_link(server, "link@example.org")
    deadline = time.monotonic() + 10
    while "sign-in link for link@example.org" not in server.log() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "sign-in link for link@example.org" in server.log()
    assert "/sign-in?t=" not in server.log()  # whoever reads the log is not to be everybody
    assert link.encode() in operator.get("/operator").body
    assert use(server, link).status == 303
    assert waiting_link(server, "link@example.org") is None


def test_the_operator_prints_a_link(server):
    server.new_key("printed@example.org")
    made = server.operate("sign-in-link", email="printed@example.org")
    assert made["minutes"] == 30
    assert use(server, made["link"]).status == 303
    server.new_key("new@example.org", verified=False)
    for email, words in (("new@example.org", "vouched"), ("none@example.org", "no account")):
        with pytest.raises(Exception, match=words):
            server.operate("sign-in-link", email=email)


def test_a_link_ends_by_time_and_with_a_block(server):
    server.new_key("ends@example.org")
    links = [server.operate("sign-in-link", email="ends@example.org")["link"] for _ in range(2)]
    with sqlite3.connect(server.data / "imgpro.db") as conn:
        conn.execute("UPDATE links SET expires_ms = 1 WHERE purpose = 'signin'")
    conn.close()
    assert use(server, links[0]).status == 404
    link = server.operate("sign-in-link", email="ends@example.org")["link"]
    server.operate("block", email="ends@example.org")
    assert use(server, link).status == 404
    server.operate("unblock", email="ends@example.org")
    assert use(server, link).status == 404


def test_a_link_for_something_else_signs_nobody_in(server):
    invitation = server.operate("invite")["invitation"]
    assert use(server, f"{server.base}/sign-in?t={invitation}").status == 404
    assert server.request("POST", "/sign-in", b"", {**FORM, "Origin": server.base}).status == 404


def test_other_sites_sign_nobody_in(server):
    """Neither by key nor by link: the victim would upload to the account of whoever made it."""
    key = server.new_key("attacker@example.org")
    link = server.operate("sign-in-link", email="attacker@example.org")["link"]
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert use(server, link, **headers).status == 403
        assert ask(server, "attacker@example.org", **headers).status == 403
        form = {**FORM, **headers}
        assert server.request("POST", "/dashboard/sign-in", f"key={key}".encode(), form).status == 403
    assert use(server, link).status == 303


def test_links_are_not_asked_for_without_end(tmp_path):
    limits = {"IMGPRO_ACCOUNTS_KEYS_PER_ADDRESS_PER_HOUR": "2", "IMGPRO_ACCOUNTS_KEYS_PER_NETWORK_PER_HOUR": "3"}
    with running(tmp_path / "data", {**UNLIMITED, **limits}) as server:
        # The same limits for addresses that are known and those that are not.
        assert [ask(server, "a@example.org").status for _ in range(3)] == [202, 202, 429]
        assert [ask(server, "b@example.org").status for _ in range(2)] == [202, 429]
        assert b"Too many links" in ask(server, "c@example.org").body
        assert ask(server, "no address").status == 422


# Where to go then


@pytest.mark.parametrize(
    "wanted", ["/dashboard/connect", "/operator/accounts/acc_1", "/operator/accounts?q=ann", "/4fT0a1b2c3d4"]
)
def test_the_way_back_is_kept(server, wanted):
    key = server.new_key(f"way{time.time_ns()}@example.org")
    page = server.get(f"/dashboard/sign-in?next={wanted}").body.decode()
    assert page.count(f'name="next" value="{wanted}"') == 2
    sent = f"key={key}&next={wanted.replace('?', '%3F').replace('=', '%3D')}".encode()
    answer = server.request("POST", "/dashboard/sign-in", sent, {**FORM, "Origin": server.base})
    assert answer.headers["Location"] == f"..{wanted}"
    wrong = server.request("POST", "/dashboard/sign-in", b"key=x&next=/dashboard/connect", {**FORM, **HTML})
    assert b'value="/dashboard/connect"' in wrong.body


def test_the_way_back_leads_to_the_search_that_was_asked_for(server):
    asked = "/dashboard?q=caf%C3%A9+co&tags=a%2Cb"
    page = server.get(asked).body.decode()
    assert page.count(f'name="next" value="{asked.replace("&", "&amp;")}"') == 2
    sent = urlencode({"key": server.new_key(f"way{time.time_ns()}@example.org"), "next": asked}).encode()
    answer = server.request("POST", "/dashboard/sign-in", sent, {**FORM, "Origin": server.base})
    assert answer.headers["Location"] == f"..{asked}"


@pytest.mark.parametrize(
    "evil",
    [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example",
        "javascript:alert(1)",
        "/%2fevil.example",
        "/%5cevil.example",
        "/dashboard/../../evil",
        "/dashboard//evil.example",
        "/a?b=//evil",
        "/a?b=%2",
        "/a?b=%0d",
        "/a%2F?b=c",
        "/a#b",
        "/a\r\nSet-Cookie: a=b",
        "/a b",
        " //evil",
        "dashboard",
        "/" + "a" * 400,
        "/ä",
    ],
)
def test_the_way_back_leads_nowhere_else(server, evil):
    assert own_path(evil) == ""
    key = server.new_key(f"evil{time.time_ns()}@example.org")
    sent = "&".join([f"key={key}", f"next={''.join(f'%{byte:02x}' for byte in evil.encode())}"])
    answer = server.request("POST", "/dashboard/sign-in", sent.encode(), {**FORM, "Origin": server.base})
    assert answer.headers["Location"] == "../dashboard"
    assert len(answer.headers.get_all("Set-Cookie")) == 1


def test_pages_for_the_signed_in_lead_to_the_way_in(server):
    for path in ("/dashboard/account", "/operator", "/operator/accounts", "/operator/settings", "/operator/log"):
        answer = server.get(path, **HTML)
        assert answer.status == 303
        assert answer.headers["Location"].endswith(f"dashboard/sign-in?next={path}")
        assert answer.headers["Cache-Control"] == "private, no-store"
    browser = by_key(server, server.new_key("there@example.org"))
    found = browser.get("/dashboard/sign-in?next=/dashboard/connect")
    assert (found.status, found.headers["Location"]) == (303, "../dashboard/connect")


# Sessions


def sessions(browser):
    page = browser.get("/dashboard/account").body.decode()
    return re.findall(r'name="session" value="([0-9a-f]+)"', page), page


def test_one_browser_is_signed_out_by_another(server):
    key = server.new_key("many@example.org")
    first, second, third = (by_key(server, key) for _ in range(3))
    others, page = sessions(first)
    assert len(others) == 2
    assert page.count("this browser") == 1
    answer = first.post("/dashboard/end-session", session=others[0])
    assert answer.status == 303
    assert sorted(browser.get("/dashboard/account").status for browser in (first, second, third)) == [200, 200, 303]
    assert first.post("/dashboard/end-session", session=others[0]).status == 404
    stranger = by_key(server, server.new_key("stranger@example.org"))
    assert stranger.post("/dashboard/end-session", session=others[1]).status == 404
    assert len(sessions(first)[0]) == 1


def test_everywhere_means_the_links_too(server):
    key = server.new_key("everywhere@example.org")
    first, second = by_key(server, key), by_key(server, key)
    link = server.operate("sign-in-link", email="everywhere@example.org")["link"]
    assert first.post("/dashboard/sign-out", all="1").status == 303
    assert [browser.get("/dashboard/account").status for browser in (first, second)] == [303, 303]
    assert use(server, link).status == 404


def test_signing_in_gives_a_new_session_and_ends_the_one_before(server):
    key = server.new_key("fixed@example.org")
    body, form = f"key={key}".encode(), {**FORM, "Origin": server.base}
    planted = "imgpro_session=" + "x" * 32
    answer = server.request("POST", "/dashboard/sign-in", body, {**form, "Cookie": planted})
    first = cookie_of(answer)
    assert first != planted
    assert server.get("/dashboard/account", Cookie=planted).status == 303
    again = cookie_of(server.request("POST", "/dashboard/sign-in", body, {**form, "Cookie": first}))
    assert server.get("/dashboard/account", Cookie=first).status == 303
    assert server.get("/dashboard/account", Cookie=again).status == 200
    assert "Secure" not in answer.headers["Set-Cookie"]  # plain http: the browser would throw it away
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(answer.headers["Set-Cookie"].split("; "))


def test_the_cookie_is_for_https_only_where_the_server_is(tmp_path):
    env = {**UNLIMITED, "IMGPRO_BASE_URL": "https://img.example.org/pictures"}
    with running(tmp_path / "data", env) as server:
        key = server.new_key("ann@example.org")
        form = {**FORM, "Origin": "https://img.example.org"}
        cookie = server.request("POST", "/dashboard/sign-in", f"key={key}".encode(), form).headers["Set-Cookie"]
        assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/pictures"} <= set(cookie.split("; "))


def test_a_session_goes_on_while_it_is_used(tmp_path):
    def rows(server):
        with sqlite3.connect(server.data / "imgpro.db") as conn:
            found = conn.execute("SELECT created_ms, seen_ms, expires_ms FROM sessions ORDER BY created_ms").fetchall()
        conn.close()
        return found

    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_ACCOUNTS_SESSION_S": "10d"}) as server:
        key = server.new_key("ann@example.org")
        used, left = by_key(server, key), by_key(server, key)
        server.stop()
        now_ms, day_ms = int(time.time() * 1000), 86_400_000
        with sqlite3.connect(server.data / "imgpro.db") as conn:
            conn.execute(
                "UPDATE sessions SET created_ms = ?, seen_ms = 0, expires_ms = ?",
                (now_ms - 9 * day_ms, now_ms + day_ms),
            )
        conn.close()
        server.start()
        assert used.get("/dashboard/account").status == 200
        server.stop()
        assert sorted((expires - now_ms) // day_ms for _, _, expires in rows(server)) == [1, 10]
        # A year after it began it ends, however much it was used.
        with sqlite3.connect(server.data / "imgpro.db") as conn:
            conn.execute("UPDATE sessions SET created_ms = ?", (now_ms - 364 * day_ms,))
        conn.close()
        server.start()
        assert left.get("/dashboard/account").status == 200
        server.stop()
        assert max((expires - now_ms) // day_ms for _, _, expires in rows(server)) == 10
        assert min((expires - now_ms + day_ms // 2) // day_ms for _, _, expires in rows(server)) == 1


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "Firefox on Linux"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Version/17.5 Mobile Safari/604.1", "Safari on iPhone"),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/126.0 Safari/537.36 Edg/126.0", "Edge on Windows"),
        ("Mozilla/5.0 (Linux; Android 14) Chrome/126.0 Mobile Safari/537.36", "Chrome on Android"),
        ("<script>alert(1)</script>", "A browser"),
        ("", "A browser"),
    ],
)
def test_a_browser_is_named_in_our_words(agent, words):
    assert browser_words(agent) == words


# Forms


def test_every_form_of_an_account_and_the_operator_needs_our_token(server, operator, routed):
    forms = [
        path.replace("{id}", "acc_000000").replace("{program}", "sharex")
        for method, path in routed
        if method == "POST" and path.startswith(("/dashboard", "/operator")) and "/sign-in" not in path
    ]
    assert len(forms) >= 8
    wrong = operator.token[:-1] + ("y" if operator.token.endswith("x") else "x")
    for path in forms:
        for csrf in ("", wrong):
            assert operator.post(path, csrf=csrf).status == 403, (path, csrf)
        nobody = server.request("POST", path, b"csrf=x", {**FORM, "Origin": server.base})
        assert nobody.status == 401, path
        elsewhere = {**FORM, "Cookie": operator.cookie, "Origin": "https://evil.example"}
        assert server.request("POST", path, f"csrf={operator.token}".encode(), elsewhere).status == 403, path


# Pages and strangers


def filled_in(path, image):
    values = {
        "id": image,
        "ext": "webp",
        "name": "quick-start",
        "plan": "pro",
        "program": "sharex",
        "key_id": "key_000000",
    }
    if "/operator/accounts/" in path:
        values["id"] = "acc_000000"
    if path.startswith("/static/"):
        values["name"] = "imgpro.css"
    return re.sub(r"\{(\w+)\}", lambda found: values[found[1]], path)


def test_every_page_has_its_headers(server, operator, routed):
    key = server.new_key("headers@example.org")
    image = server.must_upload(PNG, key=key)["id"]
    member = by_key(server, key)
    seen = set()
    for cookie in ("", member.cookie, operator.cookie):
        for method, path in routed:
            if method != "GET" or path == "/v1/events":
                continue
            for extra in ("", "?t=x&next=/dashboard"):
                answer = server.get(filled_in(path, image) + extra, Cookie=cookie, **HTML)
                if not answer.headers.get("Content-Type", "").startswith("text/html"):
                    continue
                seen.add(path)
                policy = answer.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy, path
                assert "frame-ancestors 'none'" in policy, path
                assert "unsafe" not in policy, path
                assert answer.headers["X-Content-Type-Options"] == "nosniff", path
                assert answer.headers["X-Frame-Options"] == "DENY", path
                assert answer.headers["Referrer-Policy"] in ("same-origin", "no-referrer"), path
                assert "no-store" in answer.headers["Cache-Control"], path
                assert b" style=" not in answer.body, path
                assert b"<style" not in answer.body, path
                assert not re.search(rb"<script(?![^>]* src=)", answer.body), path
    assert {"/", "/dashboard", "/dashboard/account", "/operator", "/operator/log", "/{id}", "/sign-in", "/join"} <= seen


def test_no_page_shows_a_stranger_anything_of_an_account(server, operator, routed):
    email = "very.secret.address@hidden.example"
    made = server.api("POST", "/v1/keys", {"email": email, "name": "hiddenkeyname"}).json()
    server.operate("verify", email=email, keep=[made["key_id"]])
    fields = {"namespace": "hiddennamespace", "tags": "hiddentag"}
    images = [server.must_upload(PNG, f"hidden{n}.png", key=made["key"], **fields)["id"] for n in range(2)]
    shown = server.must_upload(PNG, "shown.png", key=made["key"], **fields)["id"]
    private = server.must_upload(PNG, "hiddenprivate.png", key=made["key"], public="false", **fields)["id"]
    account = next(row["id"] for row in server.operate("list")["accounts"] if row["email"] == email)
    wanted = [email, made["key_id"], "hiddenkeyname", "hiddennamespace", "hiddentag", "hiddenprivate", account]
    wanted += [*images, private, made["key"]]
    stranger = by_key(server, server.new_key("someone@example.org"))
    found = 0
    for cookie in ("", stranger.cookie):
        for method, path in routed:
            # The API shows a public picture with its tags to whoever knows its id: that is its contract.
            if method != "GET" or path.startswith("/v1/"):
                continue
            for target in (filled_in(path, shown), filled_in(path, private).replace("acc_000000", account)):
                answer = server.get(target, Cookie=cookie, **HTML)
                text = answer.body.decode("utf-8", "replace") + str(answer.headers)
                leaks = [word for word in wanted if word in text and word not in target]
                assert leaks == [], (target, leaks)
                found += answer.status == 200
    assert found > 40
    # The look-out works: the owner does see all that.
    page = by_key(server, made["key"]).get("/dashboard/account").body.decode()
    assert email in page
    assert made["key_id"] in page


def test_an_account_is_signed_in_with_so_many_browsers_at_most(server):
    key = server.new_key("many@example.org")
    browsers = [by_key(server, key) for _ in range(52)]
    pages = [
        browser.get("/dashboard/account").status for browser in (browsers[0], browsers[1], browsers[2], browsers[-1])
    ]
    assert pages == [303, 303, 200, 200]
