"""`/readyz`: bare names for everybody, reasons in words and numbers for the operator and programs on this machine."""

import contextlib
import http.client
import re
import socket

import pytest

from tests.servers import UNLIMITED, bearer, running
from tests.signed_in import FORM, SignedIn, cookie_of

FAR = {"X-Forwarded-For": "203.0.113.9"}
BARE = {"serving", "database", "disk", "workers"}


@pytest.fixture(scope="module")
def behind(tmp_path_factory):
    """A server whose clients all come through a proxy on this machine."""
    env = {**UNLIMITED, "IMGPRO_SERVER_TRUSTED_PROXIES": "127.0.0.1", "IMGPRO_SERVER_BASE_URL": "https://x.test/img"}
    with running(tmp_path_factory.mktemp("ready") / "data", env) as server:
        yield server


def is_bare(answer):
    found = answer.json()
    return set(found) == {"status", "checks"} and set(found["checks"]) == BARE


def test_whom_reasons_are_told(server):
    found = server.get("/readyz")
    assert found.status == 200
    assert "Access-Control-Allow-Origin" not in found.headers
    body = found.json()
    assert (
        set(body["reasons"])
        == set(body["checks"])
        == BARE | {"sandbox", "mail", "backup", "verify", "scrub", "journal"}
    )
    assert re.fullmatch(r"[\d.]+ [GT]B free|low: .*", body["reasons"]["disk"])
    assert re.fullmatch(r"\d+ of \d+ run, \d+ busy, \d+ jobs wait", body["reasons"]["workers"])
    # A proxy that nobody told us of, and whatever page a browser on this machine shows.
    for name, text in (*FAR.items(), ("Forwarded", "for=1"), ("Origin", "https://evil.test"), ("Via", "1.1 x"),
                       ("Sec-Fetch-Site", "cross-site"), ("X-Real-IP", "203.0.113.9"),
                       # One that says nothing of itself, and a stranger's name that a browser was led here by.
                       ("Host", "img.example.org"), ("Host", f"evil.test:{server.port}")):  # fmt: skip
        assert is_bare(server.request("GET", "/readyz", headers={name: text})), name


def test_behind_a_proxy_only_the_operator(behind):
    assert is_bare(behind.get("/readyz"))
    link = re.search(r"/setup\?t=(\w+)", behind.log())[1]
    page = behind.request("POST", "/setup", f"t={link}&email=op@example.org".encode(), FORM)
    key = re.search(r"img_live_\w{32}", page.body.decode())[0]
    operator = SignedIn(behind, cookie_of(page))
    assert "reasons" in operator.get("/readyz").json()
    assert "reasons" in behind.request("GET", "/readyz", headers={**bearer(key), **FAR}).json()
    upload_only = behind.api("POST", "/v1/keys", {"abilities": "upload"}, key=key).json()["key"]
    assert is_bare(behind.request("GET", "/readyz", headers=bearer(upload_only)))
    member = behind.new_key("ann@example.org")
    assert is_bare(behind.request("GET", "/readyz", headers=bearer(member)))
    assert behind.request("GET", "/readyz", headers=bearer(key + "x")).status == 401


def test_at_the_root_whatever_the_prefix(behind):
    for path in ("/readyz", "/healthz", "/img/readyz", "/img/healthz"):
        assert behind.get(path).status == 200
    assert set(behind.get("/healthz").json()) >= {"status", "version"}


def test_the_operators_socket_tells_everything(behind):
    connection = http.client.HTTPConnection("x")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.connect(str(behind.data / "admin.sock"))
        connection.sock = sock
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        assert (answer.status, b"reasons" in answer.read()) == (200, True)


def test_what_is_only_half_well_is_no_reason_to_send_nobody(tmp_path):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as busy:
        port = busy.getsockname()[1]
    env = {"IMGPRO_MAIL_HOST": "127.0.0.1", "IMGPRO_MAIL_PORT": str(port), "IMGPRO_MAIL_SECURITY": "none"}
    with running(tmp_path / "data", {**UNLIMITED, **env}) as server:
        assert server.get("/readyz").json()["reasons"]["mail"] == "nothing waits"
        server.new_key("ann@example.org", verified=False)
        for _ in range(100):
            answer = server.get("/readyz")
            if answer.json()["status"] == "degraded":
                break
        assert (answer.status, answer.json()["checks"]["mail"]) == (200, "degraded")
        assert answer.json()["reasons"]["mail"].startswith("1 letter waits: The mail server cannot be used")
        assert is_bare(server.request("GET", "/readyz", headers=FAR))
        assert server.request("GET", "/readyz", headers=FAR).json()["status"] == "ok"
