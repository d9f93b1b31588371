"""Signing in by a proxy's word: who is believed, what it is good for, and how others would like to use it."""

import contextlib
import http.client
import re
import socket
import time
from urllib.parse import urlencode

import pytest

from imgpro.errors import ConfigError
from imgpro.sources import load
from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, multipart, running, send_as_given
from tests.signed_in import FORM, claimed, cookie_of

JPEG = encoded(make_image("RGB", (40, 30)), "JPEG")
PROXY, STRANGER = "127.0.0.1", "127.0.0.2"
HEADER = "Remote-Email"
BASE = "http://img.test"
SETTINGS = {
    **UNLIMITED,
    "IMGPRO_BASE_URL": BASE,
    "IMGPRO_SERVER_SRC_URL": "http://pics.test",
    "IMGPRO_ACCOUNTS_REGISTRATION": "closed",
    "IMGPRO_HEADER_SIGN_IN_USER_HEADER": HEADER,
    "IMGPRO_HEADER_SIGN_IN_PROXIES": f"{PROXY}, ::1",
    "IMGPRO_HEADER_SIGN_IN_CREATE": "true",
    "IMGPRO_HEADER_SIGN_IN_GROUPS_HEADER": "Remote-Groups",
    "IMGPRO_HEADER_SIGN_IN_OPERATOR_GROUP": "admins",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("vouched") / "data", SETTINGS) as found:
        claimed(found, "op@example.org")
        yield found


def ask(server, method, path, headers=(), body=None, peer=PROXY):
    """Send one request as it stands, from an address of choice; `headers` may name one twice."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30, source_address=(peer, 0))
    try:
        return send_as_given(connection, method, path, headers, body)
    finally:
        connection.close()


def logged(server, words):
    """Return how often the log says something, once it does."""
    deadline = time.monotonic() + 5
    while words not in server.log() and time.monotonic() < deadline:
        time.sleep(0.02)
    return server.log().count(words)


def account(server, headers, **more):
    """Return the page of the account as this request sees it: 200 with a name, or 303 to the way in."""
    return ask(server, "GET", "/dashboard/account", headers, **more)


def signed_in(server, headers, **more):
    answer = account(server, headers, **more)
    assert answer.status in (200, 303), answer
    return answer.status == 200


def csrf(answer):
    return re.search('<meta name="csrf" content="([^"]+)"', answer.body.decode())[1]


# In


def test_a_visitor_is_in_at_once_and_stays_without_a_cookie(server):
    page = ask(server, "GET", "/dashboard", {HEADER: "Ann@Example.org"})
    assert page.status == 200
    assert "imgpro_session" not in page.headers["Set-Cookie"]
    assert 'href="./dashboard/account"' in page.body.decode()
    assert "ann@example.org" in account(server, {HEADER: "ann@example.org"}).body.decode()
    assert ask(server, "GET", "/dashboard/sign-in", {HEADER: "ann@example.org"}).status == 303
    [found] = [row for row in server.operate("list")["accounts"] if row["email"] == "ann@example.org"]
    assert (found["role"], found["verified"]) == ("member", True)


def test_the_account_page_says_where_to_sign_out(server):
    page = account(server, {HEADER: "ann@example.org"}).body.decode()
    assert "To sign out, sign out there." in page
    assert "<button>Sign out</button>" not in page
    form = urlencode({"csrf": csrf(account(server, {HEADER: "ann@example.org"})), "all": "1"}).encode()
    out = ask(server, "POST", "/dashboard/sign-out", {**FORM, HEADER: "ann@example.org", "Origin": BASE}, form)
    assert out.status == 303
    assert signed_in(server, {HEADER: "ann@example.org"})


def test_forms_and_scripts_work_with_the_token_of_the_page(server):
    headers = {HEADER: "ann@example.org", "Origin": BASE}
    token = csrf(account(server, headers))
    form = urlencode({"csrf": token, "name": "Laptop"}).encode()
    assert b"Laptop" in ask(server, "POST", "/dashboard/keys", {**FORM, **headers}, form).body
    content, kind = multipart([("file", "a.jpg", JPEG)])
    made = ask(server, "POST", f"/v1/upload?csrf={token}", {**headers, "Content-Type": kind}, content)
    assert made.status == 201
    listed = ask(server, "GET", "/v1/media", headers).json()["data"]
    assert made.json()["id"] in [one["id"] for one in listed]
    gone = ask(server, "DELETE", f"/v1/media/{made.json()['id']}", {**headers, "X-CSRF-Token": token})
    assert gone.status == 200


def test_a_key_wins_over_the_header(server):
    headers = {HEADER: "ann@example.org", "Origin": BASE}
    form = urlencode({"csrf": csrf(account(server, headers)), "name": "K"}).encode()
    key = re.search(r"img_live_\w{32}", ask(server, "POST", "/dashboard/keys", {**FORM, **headers}, form).body.decode())
    assert key is not None
    usage = ask(server, "GET", "/v1/keys", {HEADER: "bea@example.org", "Authorization": f"Bearer {key[0]}"})
    assert "K" in [row["name"] for row in usage.json()["data"]]
    wrong = ask(server, "GET", "/v1/keys", {HEADER: "bea@example.org", "Authorization": "Bearer wrong"})
    assert wrong.status == 401


# Where the proxy lets programs pass, and with them the scripts of our pages


def voucher_of(server, email):
    """Return the voucher that a page hands out, as a browser sends it back."""
    answer = account(server, {HEADER: email})
    assert "HttpOnly" in answer.headers["Set-Cookie"]
    assert "SameSite=Strict" in answer.headers["Set-Cookie"]
    assert "Secure" not in answer.headers["Set-Cookie"]  # by the address in the settings
    return {"Cookie": cookie_of(answer), "Origin": BASE}, csrf(answer)


def test_scripts_and_pictures_of_our_pages_work_where_the_header_is_missing(server):
    voucher, token = voucher_of(server, "ann@example.org")
    content, kind = multipart([("file", "a.jpg", JPEG), ("public", None, b"false")])
    made = ask(server, "POST", f"/v1/upload?csrf={token}", {**voucher, "Content-Type": kind}, content).json()
    assert made["id"] in [one["id"] for one in ask(server, "GET", "/v1/media", voucher).json()["data"]]
    assert ask(server, "GET", f"/t/{made['id']}.jpeg", voucher).status == 200
    assert ask(server, "GET", f"/t/{made['id']}.jpeg").status == 404
    path = f"/v1/media/{made['id']}"
    assert (
        ask(server, "DELETE", path, {**voucher, "X-CSRF-Token": voucher_of(server, "bea@example.org")[1]}).status == 403
    )
    assert ask(server, "DELETE", path, {**voucher, "Origin": "https://evil.test", "X-CSRF-Token": token}).status == 403
    assert ask(server, "DELETE", path, voucher).status == 401
    assert ask(server, "DELETE", path, {**voucher, "X-CSRF-Token": token}).status == 200


def test_a_voucher_opens_no_page_and_helps_nobody_whom_the_proxy_does_not_know(server):
    voucher, _ = voucher_of(server, "ann@example.org")
    assert not signed_in(server, voucher)
    assert not operates(server, voucher_of(server, "op@example.org")[0])
    assert ask(server, "GET", "/v1/keys", voucher).status == 200
    assert ask(server, "GET", "/v1/keys", {**voucher, HEADER: "nonsense"}).status == 401
    fred, _ = voucher_of(server, "fred@example.org")
    server.operate("block", email="fred@example.org")
    assert ask(server, "GET", "/v1/keys", fred).status == 401


def test_a_voucher_makes_nobody_the_operator_whom_the_groups_do_not(server):
    """The account that claimed the server keeps its role in the database; by header it has that of its groups."""
    for groups, told in (({}, False), ({"Remote-Groups": "admins"}, True)):
        page = account(server, {HEADER: "op@example.org", **groups})
        answer = ask(server, "GET", "/readyz", {"Cookie": cookie_of(page), "Origin": BASE})
        assert ("reasons" in answer.json()) is told, groups


def test_a_voucher_is_for_one_account_and_cannot_be_made(server):
    ann, bea = (
        voucher_of(server, f"{name}@example.org")[0]["Cookie"].partition("=")[2].strip('"') for name in ("ann", "bea")
    )
    for forged in (
        f"{ann.partition(':')[0]}:{bea.partition(':')[2]}", ann[:-1] + ("A" if ann[-1] != "A" else "B"), ann.partition(":")[0],
        ":", "", f"{ann.partition(':')[0]}:", f"{ann.partition(':')[0]}:10.{ann.partition('.')[2]}",
    ):  # fmt: skip
        assert ask(server, "GET", "/v1/keys", {"Cookie": f'imgpro_voucher="{forged}"'}).status == 401
    assert ask(server, "GET", "/v1/keys", {"Cookie": f'imgpro_voucher="{ann}"'}).status == 200


# Whom nobody believes


@pytest.mark.parametrize("path", ["/dashboard/account", "/v1/keys"])
def test_the_header_of_another_peer_is_as_if_absent(server, path):
    alone = ask(server, "GET", path, peer=STRANGER)
    spoofed = ask(server, "GET", path, {HEADER: "op@example.org", "Remote-Groups": "admins"}, peer=STRANGER)
    assert spoofed.status == alone.status in (303, 401)
    forwarded = {HEADER: "op@example.org", "X-Forwarded-For": PROXY, "X-Forwarded-Host": "img.test"}
    assert ask(server, "GET", path, forwarded, peer=STRANGER).status == alone.status
    assert logged(server, f"{HEADER} from {STRANGER} is not believed") == 1


@pytest.mark.parametrize(
    "headers",
    [
        [(HEADER, "op@example.org"), (HEADER, "ann@example.org")],
        [(HEADER, "ann@example.org"), (HEADER.lower(), "ann@example.org")],
        [(HEADER, "op@example.org, ann@example.org")],
        [(HEADER, "ann")],
        [(HEADER, "")],
        [(HEADER, "Ann <ann@example.org>")],
        [(HEADER, "ann@example.org\tx")],
        [(HEADER, "ann@exämple.org".encode().decode("latin-1"))],
        [(HEADER, "ann@example.org"), ("Remote-Groups", "users"), ("Remote-Groups", "admins")],
        [("Remote_Email", "ann@example.org")],
        [("Remote Email", "ann@example.org")],
        [("X-Remote-Email", "ann@example.org")],
    ],
    ids=range(12),
)
def test_what_is_not_one_plain_address_is_nobody(server, headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    with contextlib.closing(connection):
        if " " in headers[0][0]:
            connection.putheader = lambda name, value: connection._buffer.append(f"{name}: {value}".encode("latin-1"))
        answer = send_as_given(connection, "GET", "/dashboard/account", headers)
    assert answer.status in (303, 400)


def test_a_bare_name_is_told_in_the_log(server):
    assert not signed_in(server, {HEADER: "ann"})
    assert logged(server, f"nobody is signed in by header: {HEADER} came without one plain mail address")


def test_a_cookie_does_not_help_where_the_header_names_nobody(server):
    """Else a proxy that adds its header to the client's own would let old sessions speak for it."""
    link = server.operate("sign-in-link", email="ann@example.org")["link"]
    body = urlencode({"t": link.partition("t=")[2]}).encode()
    cookie = cookie_of(ask(server, "POST", "/sign-in", {**FORM, "Origin": BASE}, body))
    assert signed_in(server, {"Cookie": cookie})
    assert not signed_in(server, [("Cookie", cookie), (HEADER, "ann@example.org"), (HEADER, "ann@example.org")])
    # And where it names somebody, it is that one.
    assert b"bea@example.org" in account(server, {"Cookie": cookie, HEADER: "bea@example.org"}).body


def test_requests_on_one_connection_of_a_proxy_are_each_their_own(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    with contextlib.closing(connection):
        assert send_as_given(connection, "GET", "/dashboard/account", {HEADER: "ann@example.org"}).status == 200
        assert send_as_given(connection, "GET", "/dashboard/account").status == 303
        assert b"bea@" in send_as_given(connection, "GET", "/dashboard/account", {HEADER: "bea@example.org"}).body
        assert send_as_given(connection, "GET", "/v1/keys").status == 401


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: {n}\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: {n}",
        "Content-Length: 0\r\nContent-Length: {n}",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding : chunked",
        "Content-Length: +{n}",
    ],
)
def test_no_request_hides_in_the_body_of_another(server, framing):
    """A client of the proxy that can make us see a second request would write its headers itself."""
    hidden = f"GET /dashboard/account HTTP/1.1\r\nHost: img.test\r\n{HEADER}: op@example.org\r\n\r\n"
    body = f"0\r\n\r\n{hidden}"
    head = f"POST /dashboard/keys HTTP/1.1\r\nHost: img.test\r\n{framing.format(n=len(body))}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        raw.sendall((head + body).encode())
        seen = b""
        with contextlib.suppress(ConnectionResetError):
            while more := raw.recv(65536):
                seen += more
    assert seen.split(b"\r\n")[0].endswith(b"400 Bad Request")
    assert seen.count(b"HTTP/1.") == 1


# What other sites' pages make a browser send, to which the proxy adds its word


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors", "Origin": "https://evil.test"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", "Origin": "http://evil.img.test"},
        {"Origin": "https://evil.test"},
        {"Origin": "null"},
        {"Host": "evil.test", "Sec-Fetch-Site": "same-origin"},  # whose name leads here since a moment ago
        {"Host": "img.test.evil.test"},
        {"Host": "127.0.0.1"},
        {"Host": "pics.test"},
    ],
    ids=range(10),
)
def test_a_script_of_another_site_reads_nothing(server, headers):
    assert ask(server, "GET", "/v1/keys", {HEADER: "ann@example.org"}).status == 200
    answer = ask(server, "GET", "/v1/keys", {HEADER: "ann@example.org", **headers})
    assert answer.status in (401, 404)
    assert b"ann@" not in answer.body


def test_a_forwarded_host_that_a_script_has_put_there_does_not_help(tmp_path):
    """A page under a name that a stranger's DNS leads to the proxy may send any header but Host."""
    with running(tmp_path / "data", {**SETTINGS, "IMGPRO_SERVER_TRUSTED_PROXIES": PROXY}) as server:
        ann = {HEADER: "ann@example.org", "X-Forwarded-Host": "img.test"}
        assert not signed_in(server, {**ann, "Host": "evil.test"})
        assert logged(server, "asks for 'evil.test'") == 1
        for host in ("127.0.0.1:8080", "imgpro:8080", "img.test"):  # as proxies call whom they pass it to
            assert signed_in(server, {**ann, "Host": host})


def test_a_link_of_another_site_may_lead_here(server):
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert signed_in(server, {HEADER: "ann@example.org", **followed})
    assert signed_in(server, {HEADER: "ann@example.org", **followed, "Sec-Fetch-Dest": "document"})
    assert signed_in(server, {HEADER: "ann@example.org", "Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"})


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.test"},
        {"Origin": "https://evil.test", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
        {"Origin": BASE, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"},
        {"Origin": BASE},
    ],
    ids=range(4),
)
@pytest.mark.parametrize("stolen", [False, True], ids=["no token", "another's token"])
def test_a_form_of_another_site_changes_nothing(server, headers, stolen):
    """With our own origin alone it needs the token, with the token alone our own origin."""
    ann, bea = {HEADER: "ann@example.org"}, {HEADER: "bea@example.org"}
    tokens = {"csrf": csrf(account(server, bea))} if stolen else {}
    form = urlencode({"name": "Evil", **tokens}).encode()
    answer = ask(server, "POST", "/dashboard/keys", {**FORM, **ann, **headers}, form)
    assert answer.status in (401, 403)
    right = urlencode({"name": "Evil", "csrf": csrf(account(server, ann))}).encode()
    if headers != {"Origin": BASE}:
        assert ask(server, "POST", "/dashboard/keys", {**FORM, **ann, **headers}, right).status in (401, 403)
    assert b"Evil" not in account(server, ann).body


def test_a_script_of_another_site_changes_nothing_through_the_api(server):
    ann = {HEADER: "ann@example.org"}
    content, kind = multipart([("file", "a.jpg", JPEG)])
    made = ask(server, "POST", "/v1/upload", {**ann, "Origin": "https://evil.test", "Content-Type": kind}, content)
    assert made.status == 201  # as anybody's, like without a header
    listed = ask(server, "GET", "/v1/media", ann).json()["data"]
    assert made.json()["id"] not in [one["id"] for one in listed]
    token = csrf(account(server, ann))
    sent = {**ann, "Origin": "https://evil.test", "X-CSRF-Token": token}
    assert ask(server, "DELETE", f"/v1/media/{made.json()['id']}", sent).status in (401, 403)


# The operator


def operates(server, headers):
    return ask(server, "GET", "/operator", headers).status == 200


def test_a_group_makes_the_operator_for_as_long_as_the_proxy_says_so(server):
    for groups in ("admins", "users,admins", "users | admins", " admins ,x"):
        assert operates(server, {HEADER: "cleo@example.org", "Remote-Groups": groups})
    for groups in ("", "Admins", "admins2", "no-admins", "ad,mins", "users"):
        assert not operates(server, {HEADER: "cleo@example.org", "Remote-Groups": groups})
    assert not operates(server, {HEADER: "cleo@example.org"})
    [row] = [row for row in server.operate("list")["accounts"] if row["email"] == "cleo@example.org"]
    assert row["role"] == "member"


def test_whoever_claimed_the_server_is_not_its_operator_to_a_proxy_that_says_no_and_never_locked_out(server):
    assert not operates(server, {HEADER: "op@example.org", "Remote-Groups": "users"})
    assert operates(server, {HEADER: "op@example.org", "Remote-Groups": "admins"})
    link = server.operate("sign-in-link", email="op@example.org")["link"]
    body = urlencode({"t": link.partition("t=")[2]}).encode()
    cookie = cookie_of(ask(server, "POST", "/sign-in", {**FORM, "Origin": BASE}, body))
    assert operates(server, {"Cookie": cookie})


def test_an_operator_by_group_may_do_what_one_may(server):
    cleo = {HEADER: "cleo@example.org", "Remote-Groups": "admins", "Origin": BASE}
    token = csrf(ask(server, "GET", "/operator", cleo))
    form = urlencode({"csrf": token, "email": "dan@example.org"}).encode()
    assert b"/join?t=" in ask(server, "POST", "/operator/invite", {**FORM, **cleo}, form).body
    member = {HEADER: "cleo@example.org", "Origin": BASE}  # the same token, the group gone
    assert ask(server, "POST", "/operator/invite", {**FORM, **member}, form).status == 403


# Accounts


def test_who_is_blocked_stays_out_and_is_told(server):
    assert signed_in(server, {HEADER: "eve@example.org"})
    server.operate("block", email="eve@example.org")
    page = ask(server, "GET", "/dashboard", {HEADER: "eve@example.org"})
    assert b"was blocked by the operator" in page.body
    assert not signed_in(server, {HEADER: "eve@example.org", "Remote-Groups": "admins"})
    assert ask(server, "GET", "/v1/keys", {HEADER: "eve@example.org"}).status == 401


def test_the_host_of_pictures_knows_nobody(server):
    headers = {HEADER: "ann@example.org", "Origin": BASE}
    content, kind = multipart([("file", "a.jpg", JPEG), ("public", None, b"false")])
    token = csrf(account(server, headers))
    made = ask(server, "POST", f"/v1/upload?csrf={token}", {**headers, "Content-Type": kind}, content).json()
    path = f"/t/{made['id']}.jpeg"
    assert ask(server, "GET", path, {HEADER: "ann@example.org"}).status == 200
    assert ask(server, "GET", path, {HEADER: "ann@example.org", "Host": "pics.test"}).status == 404
    assert ask(server, "GET", path, {HEADER: "bea@example.org"}).status == 404


def test_without_create_only_accounts_that_are_there_and_the_address_counts_as_confirmed(tmp_path):
    env = {**SETTINGS, "IMGPRO_HEADER_SIGN_IN_CREATE": "false", "IMGPRO_ACCOUNTS_REGISTRATION": "open"}
    env = {name: value for name, value in env.items() if "GROUP" not in name}
    with running(tmp_path / "data", env) as server:
        operator = claimed(server, "op@example.org")
        assert operator.token
        page = ask(server, "GET", "/dashboard", {HEADER: "ann@example.org"})
        assert (page.status, b"which has no such account" in page.body) == (200, True)
        assert not signed_in(server, {HEADER: "ann@example.org"})
        # A stranger asks for a key in her name, and it works as long as nobody knows better.
        key = server.new_key("ann@example.org", verified=False)
        assert server.api("GET", "/v1/usage", key=key).status == 200
        assert signed_in(server, {HEADER: "ann@example.org"})
        assert server.api("GET", "/v1/usage", key=key).status == 403
        # Where groups decide nothing, the role is the account's own.
        assert operates(server, {HEADER: "op@example.org"})
        assert not operates(server, {HEADER: "ann@example.org"})


def test_off_means_off(tmp_path):
    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_BASE_URL": BASE}) as server:
        claimed(server, "op@example.org")
        assert not signed_in(server, {HEADER: "op@example.org"})
        assert "not believed" not in server.log()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"IMGPRO_HEADER_SIGN_IN_PROXIES": ""}, "header_sign_in.proxies: needed"),
        ({"IMGPRO_HEADER_SIGN_IN_PROXIES": "0.0.0.0/0"}, "is everybody"),
        ({"IMGPRO_HEADER_SIGN_IN_PROXIES": "::/0"}, "is everybody"),
        ({"IMGPRO_HEADER_SIGN_IN_GROUPS_HEADER": ""}, "groups_header: needed"),
        ({"IMGPRO_HEADER_SIGN_IN_USER_HEADER": "Remote_Email"}, "must be the name of a header"),
        ({"IMGPRO_HEADER_SIGN_IN_USER_HEADER": "Cookie"}, "must be the name of a header"),
        ({"IMGPRO_BASE_URL": "", "IMGPRO_SERVER_SRC_URL": ""}, "server.base_url: needed"),
    ],
)
def test_settings_that_would_let_anybody_be_anybody_are_refused(change, words):
    env = {name: value for name, value in {**SETTINGS, **change}.items() if value}
    with pytest.raises(ConfigError, match=re.escape(words)):
        load({}, None, env)
    load({}, None, SETTINGS)
