"""Imports from a real peer that behaves in every bad way, and addresses that must never be connected to."""

import gzip
import json
import socket
import socketserver
import threading
import time
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tests.containers import encode, picture
from tests.patience import wait_until
from tests.servers import UNLIMITED, blobs, leftovers, running
from tests.wire import assert_shape, complaints

PNG = encode(picture("RGB", (50, 30)), "PNG")
DEADLINE_S = 1.2
MAX_BYTES = 300_000


def reply(body, status="200 OK", *headers):
    lines = [f"HTTP/1.1 {status}", "Content-Type: text/plain", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def redirect(location, status="302 Found"):
    return reply(b"", status, f"Location: {location}", "Set-Cookie: crumb=1")


def chunk(body):
    return b"%x\r\n%s\r\n" % (len(body), body)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ANSWERS = {
    "/ok": reply(PNG),
    "/chunked": CHUNKED + chunk(PNG[:50]) + chunk(PNG[50:]) + b"0\r\n\r\n",
    "/until-close": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + PNG,
    "/http10": b"HTTP/1.0 200 OK\r\n\r\n" + PNG,
    "/wrong-type": reply(PNG, "200 OK", "Content-Disposition: attachment; filename=evil.html"),
    "/gzip": reply(gzip.compress(PNG), "200 OK", "Content-Encoding: gzip"),
    "/deflate": reply(PNG, "200 OK", "Content-Encoding: deflate"),
    "/lying-gzip": reply(PNG, "200 OK", "Content-Encoding: GZIP"),
    "/html": reply(b"<html>no picture</html>"),
    "/empty": reply(b""),
    "/half": reply(PNG[: len(PNG) // 2]),
    "/404": reply(PNG, "404 Not Found"),
    "/500": reply(PNG, "500 Oops"),
    "/204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "/206": reply(PNG, "206 Partial Content"),
    "/300": reply(PNG, "300 Multiple Choices", "Location: /ok"),
    "/304": b"HTTP/1.1 304 Not Modified\r\n\r\n",
    "/short": reply(PNG)[:-20],
    "/short-chunks": CHUNKED + chunk(PNG[:50]),
    "/bad-chunks": CHUNKED + b"zz\r\n",
    "/no-http": b"SSH-2.0-OpenSSH_9.2\r\n",
    "/nothing": b"",
    "/many-headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n" + PNG,
    "/long-header": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n" + PNG,
    "/declares-too-much": b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n" + PNG,
    "/no-location": reply(b"", "302 Found"),
    "/continue": b"HTTP/1.1 100 Continue\r\n\r\n" + reply(PNG),
}
USELESS = [
    "gzip", "deflate", "lying-gzip", "html", "empty", "half", "404", "500", "204", "206", "300", "304", "short", "short-chunks",
    "bad-chunks", "no-http", "nothing", "many-headers", "long-header", "declares-too-much", "no-location", "reset", "endless",
]  # fmt: skip


class Peer(socketserver.ThreadingTCPServer):
    """Answers by the path; listens on every address, so that a forbidden one would be reached."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self):
        super().__init__(("0.0.0.0", 0), Visit)
        self.heads = []
        self.port = self.server_address[1]

    def handle_error(self, request, client_address):
        pass  # the other side hangs up: that is what it should do


class Visit(socketserver.BaseRequestHandler):
    def handle(self):
        head = b""
        while b"\r\n\r\n" not in head:
            data = self.request.recv(65536)
            if not data:
                return
            head += data
        self.server.heads.append(head.decode())
        target = urlsplit(head.split(b" ")[1].decode())
        if target.path in ANSWERS:
            self.request.sendall(ANSWERS[target.path])
        else:
            getattr(self, "on_" + target.path.split("/")[1].replace("-", "_"))(target)

    def on_hops(self, target):
        left = int(target.path.split("/")[2])
        self.request.sendall(redirect(f"/hops/{left - 1}") if left else reply(PNG))

    def on_status(self, target):
        self.request.sendall(redirect("ok", target.path.split("/")[2] + " Moved").replace(b"ok", b"/ok", 1))

    def on_to(self, target):
        self.request.sendall(redirect(parse_qs(target.query)["url"][0]))

    def on_reset(self, target):
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    def on_endless(self, target):
        self.request.sendall(CHUNKED)
        while True:
            self.request.sendall(chunk(bytes(60_000)))

    def on_slow_headers(self, target):
        self.request.recv(1)

    def on_trickling_headers(self, target):
        self.request.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            self.request.sendall(b"X: y\r\n")
            time.sleep(0.1)

    def on_slow_body(self, target):
        self.request.sendall(reply(PNG)[:-9])
        self.request.recv(1)

    def on_trickling_body(self, target):
        self.request.sendall(CHUNKED)
        while True:
            self.request.sendall(chunk(b"x"))
            time.sleep(0.1)


@pytest.fixture(scope="module")
def peer():
    with Peer() as found:
        threading.Thread(target=found.serve_forever, args=(0.05,), daemon=True).start()
        yield found
        found.shutdown()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


@pytest.fixture(scope="module")
def own_port():
    return free_port()


@pytest.fixture(scope="module")
def dead_port():
    return free_port()


@pytest.fixture(scope="module")
def importer(tmp_path_factory, peer, own_port, dead_port):
    env = UNLIMITED | {
        "IMGPRO_IMPORTS_PRIVATE_NETWORKS": "127.0.0.1/32",
        "IMGPRO_IMPORTS_PORTS": f"80,{peer.port},{own_port},{dead_port}",
        "IMGPRO_IMPORTS_DEADLINE_S": f"{DEADLINE_S}s",
        "IMGPRO_UPLOADS_ANONYMOUS_MAX_BYTES": str(MAX_BYTES),
        "IMGPRO_LOG_FORMAT": "json",
        "http_proxy": f"http://127.0.0.1:{peer.port}",
    }
    data = tmp_path_factory.mktemp("import") / "data"
    with running(data, env, "--listen", f"127.0.0.1:{own_port}") as found:
        yield found


@pytest.fixture(autouse=True)
def tidy(importer, peer):
    peer.heads.clear()
    yield
    deadline = time.monotonic() + 5
    while leftovers(importer.data) and time.monotonic() < deadline:
        time.sleep(0.02)
    wait_until(lambda: leftovers(importer.data) == [])
    assert complaints(importer, "fetch_failed") == []


def fetch(importer, url, **fields):
    return post(importer, json.dumps({"url": url, **fields}).encode())


def post(importer, body, **headers):
    return importer.request("POST", "/v1/import", body, {"Content-Type": "application/json", **headers})


def at(peer, path):
    return f"http://127.0.0.1:{peer.port}/{path}"


# What works


def test_every_field(importer, peer):
    url = at(peer, "ok?some=query#part")
    answer = fetch(
        importer,
        url,
        name="n.png",
        description="d",
        public=False,
        ttl="1h",
        date="2026-05-31",
        tags=["a"],
        namespace="-",
    )
    assert answer.status == 201, answer
    found = answer.json()
    assert (found["name"], found["description"], found["public"], found["date"]) == ("n.png", "d", False, "2026-05-31")
    assert found["expires_at"] == found["created_at"] + 3600
    assert (found["width"], found["height"], found["format"], found["filesize"]) == (50, 30, "png", len(PNG))
    assert (found["tags"], found["namespace"]) == ([], None)
    assert importer.get(found["signed_src"]).body == PNG
    assert found["upgrade"]["type"] == "register"
    assert "delete_url" in found
    assert peer.heads[0].startswith("GET /ok?some=query HTTP/1.1\r\n")


def test_a_number_of_seconds_and_one_for_true(importer, peer):
    found = fetch(importer, at(peer, "ok"), ttl=600, public=1, description=None).json()
    assert found["expires_at"] == found["created_at"] + 600
    assert found["public"] is True


@pytest.mark.parametrize("path", ["ok", "chunked", "until-close", "http10", "wrong-type", "continue"])
def test_answers_that_are_pictures(importer, peer, path):
    answer = fetch(importer, at(peer, path))
    assert answer.status == 201, answer
    assert importer.get(answer.json()["src"]).body == PNG


def test_the_name_comes_from_the_address(importer, peer):
    peer_answers = {"/a%20b%2Fc.png": reply(PNG), "/%E2%80%AEx%00%0D.png": reply(PNG)}
    ANSWERS.update(peer_answers)
    assert fetch(importer, at(peer, "a%20b%2Fc.png")).json()["name"] == "c.png"
    assert fetch(importer, at(peer, "%E2%80%AEx%00%0d.png")).json()["name"] == "x.png"


def test_the_request_tells_nothing(importer, peer):
    post(importer, json.dumps({"url": at(peer, "hops/2")}).encode(), Cookie="a=b", Referer="http://x/")
    assert len(peer.heads) == 3
    for head in peer.heads:
        names = {line.partition(":")[0].lower() for line in head.split("\r\n")[1:] if line}
        assert names == {"host", "user-agent", "accept", "accept-encoding", "connection"} or names == {
            "host",
            "user-agent",
            "accept",
            "accept-encoding",
        }
        assert "Accept-Encoding: identity\r\n" in head


# Redirects


def test_three_redirects_and_no_more(importer, peer):
    assert fetch(importer, at(peer, "hops/3")).status == 201
    answer = fetch(importer, at(peer, "hops/4"))
    assert_shape(answer, 502, "fetch_failed")
    assert len([head for head in peer.heads if "/hops/" in head]) == 8


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_every_kind_of_redirect(importer, peer, status):
    assert fetch(importer, at(peer, f"status/{status}")).status == 201
    assert all(head.startswith("GET ") for head in peer.heads)


@pytest.mark.parametrize(
    "location", ["ok", "./ok", "/ok", "//127.0.0.1:{port}/ok", "?x=1", "/ok#f", "http://127.0.0.1:{port}/ok"]
)
def test_relative_redirects(importer, peer, location):
    answer = fetch(importer, at(peer, "to?url=" + quote(location.format(port=peer.port), safe="")))
    assert answer.status == (502 if location == "?x=1" else 201) or location == "?x=1"


def forbidden(peer, own_port):
    port = peer.port
    return {
        "another loopback address": f"http://127.0.0.2:{port}/ok",
        "decimal": f"http://2130706434:{port}/ok",
        "hex": f"http://0x7f000002:{port}/ok",
        "hex parts": f"http://0x7f.0.0.0x2:{port}/ok",
        "octal": f"http://0177.0.0.2:{port}/ok",
        "short": f"http://127.2:{port}/ok",
        "full width": f"http://１２７.0.0.2:{port}/ok",
        "ideographic dots": f"http://127。0。0。2:{port}/ok",
        "percent digits": f"http://%31%32%37.0.0.2:{port}/ok",
        "a dot at the end": f"http://127.0.0.2.:{port}/ok",
        "mapped": f"http://[::ffff:127.0.0.2]:{port}/ok",
        "mapped in hex": f"http://[::ffff:7f00:2]:{port}/ok",
        "compatible": f"http://[::127.0.0.2]:{port}/ok",
        "IPv6 loopback": f"http://[::1]:{port}/ok",
        "IPv6 any": f"http://[::]:{port}/ok",
        "zone": f"http://[fe80::1%25lo]:{port}/ok",
        "zone unescaped": f"http://[fe80::1%lo]:{port}/ok",
        "any": f"http://0.0.0.0:{port}/ok",
        "zero": f"http://0:{port}/ok",
        "private": "http://10.0.0.1/",
        "metadata": "http://169.254.169.254/latest/meta-data/",
        "NAT64": "http://[64:ff9b::7f00:2]/",
        "6to4": "http://[2002:7f00:2::]/",
        "our own port": f"http://127.0.0.1:{own_port}/healthz",
        "our own port by name": f"http://localhost:{own_port}/healthz",
        "another port": "http://127.0.0.1:22/",
        "port 0": "http://127.0.0.1:0/",
        "a name that is not there": "http://nothing.invalid/",
        "userinfo": f"http://user@127.0.0.1:{port}/ok",
        "userinfo and password": f"http://user:pass@127.0.0.1:{port}/ok",
        "empty userinfo": f"http://@127.0.0.1:{port}/ok",
        "file": "file:///etc/passwd",
        "ftp": "ftp://127.0.0.1/ok",
        "gopher": f"gopher://127.0.0.1:{port}/ok",
        "data": "data:image/png;base64,AAAA",
        "unix": "http+unix://%2Ftmp%2Fx/",
        "no host": "http:///ok",
        "only a scheme": "http://",
        "a port out of range": "http://127.0.0.1:99999/",
        "letters for a port": "http://127.0.0.1:x/",
        "unclosed bracket": "http://[::1/",
        "a broken label": f"http://a..b:{port}/",
        "a long label": f"http://{'a' * 70}.example/",
        "a long name": f"http://{'a.' * 200}example/",
    }


UNSENDABLE = {
    "backslash": "http://127.0.0.1\\@127.0.0.2:{port}/ok",
    "backslash in the path": "http://127.0.0.1:{port}/\\ok",
    "line break": "http://127.0.0.1:{port}/ok\r\nX-Evil: 1",
    "line break in the host": "http://127.0.0.1\r\n:{port}/ok",
    "tab": "http://127.0.0.1:{port}/o\tk",
    "blank": "http://127.0.0.1:{port}/o k",
    "blank before": " http://127.0.0.1:{port}/ok",
    "NUL": "http://127.0.0.1:{port}/ok\0",
    "DEL": "http://127.0.0.1:{port}/ok\x7f",
    "non-breaking blank": "http://127.0.0.1:{port}/o\u00a0k",
    "line separator": "http://127.0.0.1:{port}/o\u2028k",
    "too long": "http://127.0.0.1:{port}/" + "x" * 3000,
    "empty": "",
    "no scheme": "127.0.0.1:{port}/ok",
}
KINDS = list(forbidden(type("P", (), {"port": 1}), 1))


@pytest.fixture(scope="module")
def refused(importer, dead_port):
    """The answer for an address where nobody listens: all others must be its twins."""
    answer = fetch(importer, f"http://127.0.0.1:{dead_port}/")
    assert_shape(answer, 422, "validation_error")
    assert set(answer.json()["details"]) == {"url"}
    return answer.body


@pytest.mark.parametrize("kind", KINDS)
def test_forbidden_and_unreachable_addresses_look_the_same(importer, peer, own_port, refused, kind):
    answer = fetch(importer, forbidden(peer, own_port)[kind])
    assert answer.status == 422, answer
    assert answer.body == refused
    assert peer.heads == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_redirect_leads_nowhere_else(importer, peer, own_port, refused, kind):
    answer = fetch(importer, at(peer, "to?url=" + quote(forbidden(peer, own_port)[kind], safe="")))
    if kind in ("empty userinfo", "no host"):
        return  # joining makes an address of the same server out of these
    assert answer.status in (422, 502), answer
    assert answer.status == 502 or answer.body == refused
    assert len(peer.heads) <= 4
    assert all("GET /to" in head for head in peer.heads)


def test_only_ports_of_the_setting_are_tried(importer, refused):
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.setblocking(False)
        assert fetch(importer, f"http://127.0.0.1:{other.getsockname()[1]}/ok").body == refused
        with pytest.raises(BlockingIOError):
            other.accept()


@pytest.mark.parametrize("kind", UNSENDABLE)
def test_addresses_that_are_not_well_formed(importer, peer, kind):
    answer = fetch(importer, UNSENDABLE[kind].format(port=peer.port))
    assert_shape(answer, 422, "validation_error")
    assert "url" in answer.json()["details"]
    assert peer.heads == []


def test_names_go_through_the_same_judgement(importer, peer):
    """`localhost` may resolve to ::1 as well, which is not in the setting: then the other address is taken."""
    assert fetch(importer, f"http://localhost:{peer.port}/ok").status == 201


# Answers that are no use


@pytest.mark.parametrize("path", USELESS)
def test_useless_answers(importer, peer, path):
    before = len(blobs(importer.data))
    answer = fetch(importer, at(peer, path))
    assert_shape(answer, 502, "fetch_failed")
    assert "127.0.0.1" not in answer.json()["message"]
    assert len(blobs(importer.data)) == before


@pytest.mark.parametrize("path", ["slow-headers", "trickling-headers", "slow-body", "trickling-body"])
def test_slow_answers(importer, peer, path):
    assert_shape(fetch(importer, at(peer, path)), 504, "fetch_failed")


# Bad requests


BAD_BODIES = {
    "nothing": (b"", 400),
    "not JSON": (b"url=http://x/", 400),
    "half": (b'{"url": "http', 400),
    "an array": (b'["http://x/"]', 400),
    "text": (b'"http://x/"', 400),
    "null": (b"null", 400),
    "not UTF-8": (b'{"url": "\xff\xfe"}', 400),
    "half a surrogate pair": (b'{"url": "\\ud800"}', 400),
    "nested deeply": (b'{"url": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", 400),
    "a huge number": (b'{"url": 1' + b"0" * 5000 + b"}", 400),
    "a huge exponent": (b'{"url": 1e999}', 400),
    "no url": (b"{}", 422),
    "url null": (b'{"url": null}', 422),
    "url empty": (b'{"url": ""}', 422),
    "url a list": (b'{"url": ["http://x/"]}', 422),
    "url an object": (b'{"url": {"a": 1}}', 422),
    "url a number": (b'{"url": 7}', 422),
    "url true": (b'{"url": true}', 422),
    "name a list": (b'{"url": "http://x/", "name": ["x"]}', 422),
    "ttl a fraction": (b'{"url": "http://x/", "ttl": 300.5}', 422),
    "ttl too short": (b'{"url": "http://x/", "ttl": 5}', 422),
    "public nonsense": (b'{"url": "http://x/", "public": 2}', 422),
    "large": (b'{"url": "' + b"x" * 70_000 + b'"}', 413),
}


@pytest.mark.parametrize("kind", BAD_BODIES)
def test_bad_bodies(importer, kind):
    body, status = BAD_BODIES[kind]
    assert_shape(post(importer, body), status)


def test_every_mistake_is_named(importer):
    answer = post(importer, b'{"name": "' + b"n" * 300 + b'", "ttl": "x", "public": "x", "date": "x"}')
    assert set(answer.json()["details"]) == {"name", "ttl", "public", "date"}


def test_tags_of_any_kind_are_ignored_without_an_account(importer, peer):
    for tags in ("a,b", ["a", "b"], ["x"] * 50, {"a": 1}, 7, None):
        assert fetch(importer, at(peer, "ok"), tags=tags, namespace=["x"]).status == 201


def test_a_compressed_request_is_refused(importer):
    assert_shape(post(importer, gzip.compress(b"{}"), **{"Content-Encoding": "gzip"}), 415, "unsupported_format")


# Limits and settings


def test_the_rate_of_imports(tmp_path, peer):
    env = UNLIMITED | {
        "IMGPRO_IMPORTS_PRIVATE_NETWORKS": "127.0.0.1/32",
        "IMGPRO_IMPORTS_PORTS": str(peer.port),
        "IMGPRO_IMPORTS_PER_HOUR": "2",
    }
    with running(tmp_path / "data", env) as server:
        assert fetch(server, at(peer, "ok")).status == 201
        assert fetch(server, at(peer, "404")).status == 502  # an attempt counts whatever comes of it
        visits = len(peer.heads)
        answer = fetch(server, at(peer, "ok"))
        assert_shape(answer, 429, "rate_limited")
        assert 1700 < answer.json()["action"]["seconds"] <= 1801
        assert len(peer.heads) == visits
        assert server.must_upload(PNG)["format"] == "png"


def test_imports_can_be_turned_off_and_by_default_reach_no_loopback(tmp_path, peer):
    with running(tmp_path / "off", UNLIMITED | {"IMGPRO_IMPORTS_ENABLED": "false"}) as server:
        assert_shape(fetch(server, at(peer, "ok")), 404, "not_found")
    with running(tmp_path / "default", UNLIMITED | {"IMGPRO_IMPORTS_PORTS": str(peer.port)}) as server:
        for url in (at(peer, "ok"), f"http://localhost:{peer.port}/ok"):
            assert_shape(fetch(server, url), 422, "validation_error")
    assert peer.heads == []
