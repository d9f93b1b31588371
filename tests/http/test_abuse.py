"""Hostile connections over raw sockets. After every single one a good request succeeds at once."""

import contextlib
import re
import socket
import threading
import time

import pytest

from tests.containers import encode, picture
from tests.patience import wait_until
from tests.servers import UNLIMITED, leftovers, multipart, running
from tests.wire import Wire, ask, assert_shape, complaints

PNG = encode(picture("RGB", (60, 40)), "PNG")
CHUNK_S, IDLE_S, MAX_PER_NETWORK = 0.7, 0.9, 24
TIGHT = UNLIMITED | {
    "IMGPRO_UPLOADS_CHUNK_DEADLINE_S": f"{CHUNK_S}s",
    "IMGPRO_UPLOADS_MIN_RATE_BYTES": "10000",
    "IMGPRO_SERVER_IDLE_DEADLINE_S": f"{IDLE_S}s",
    "IMGPRO_SERVER_MAX_CONNECTIONS_PER_NETWORK": str(MAX_PER_NETWORK),
    "IMGPRO_CACHE_MEMORY_ITEM_BYTES": "2 MB",
    "IMGPRO_LOG_FORMAT": "json",
}
HOST = b"Host: pictures.test\r\n"
PUT = b"PUT /v1/upload/x.png HTTP/1.1\r\n" + HOST
CHUNKED = PUT + b"Transfer-Encoding: chunked\r\n\r\n"
NOT_BELIEVED = "is not believed; if that is your proxy"  # told once, and meant for who runs the server
FORM = b"POST /v1/upload HTTP/1.1\r\n" + HOST + b"Content-Type: multipart/form-data; boundary=b\r\n"
SECRET = "s3cr3t-query"


def put(body, extra=b""):
    return PUT + b"Content-Length: %d\r\n%s\r\n" % (len(body), extra) + body


@pytest.fixture(scope="module")
def tight(tmp_path_factory):
    with running(tmp_path_factory.mktemp("abuse") / "data", TIGHT) as found:
        yield found
        assert found.stop() == 0
        assert complaints(found, NOT_BELIEVED) == []
        assert SECRET not in found.log()


@pytest.fixture(autouse=True)
def unharmed(tight):
    """After each attack: a good upload and view at once, nothing left behind, nothing odd in the log."""
    yield
    found = tight.must_upload(PNG)
    assert tight.get(found["src"]).status == 200
    wait_until(lambda: leftovers(tight.data) == [])
    assert complaints(tight, NOT_BELIEVED) == []
    assert SECRET not in tight.log()
    assert not re.search(r"token=|sig=|[?]", tight.log().partition("  pid ")[2])  # after the banner with its link


# Slowness


def test_slow_headers_are_cut(tight):
    with Wire(tight) as wire:
        wire.send(b"GET /healthz HTTP/1.1\r\n" + HOST)
        started = time.monotonic()
        while time.monotonic() - started < 15 and wire.send(b"X-Slow: 1\r\n"):
            wire.sock.settimeout(0.2)
            try:
                if wire.sock.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        else:
            pytest.fail("slow headers were never cut")


def test_a_silent_connection_is_cut(tight):
    with Wire(tight) as wire:
        assert wire.ends()


def test_an_idle_connection_is_kept_and_then_cut(tight):
    with Wire(tight) as wire:
        for _ in range(2):
            wire.send(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
            assert wire.answer().status == 200
            time.sleep(IDLE_S / 3)
        assert wire.ends()


@pytest.mark.parametrize(
    "head",
    [
        put(PNG)[:-20],
        CHUNKED + b"5\r\nhel",
        FORM + b"Content-Length: 500\r\n\r\n",
        FORM + b"Content-Length: 500\r\n\r\n--b\r\n",
        FORM + b'Content-Length: 500\r\n\r\n--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nx',
        b"POST /v1/import HTTP/1.1\r\n" + HOST + b'Content-Length: 500\r\n\r\n{"url"',
    ],
    ids=["raw", "chunked", "form", "part headers", "field", "json"],
)
def test_a_body_that_stops_is_given_up(tight, head):
    with Wire(tight) as wire:
        wire.send(head)
        answer = wire.answer()
        assert_shape(answer, 408, "request_timeout")
        assert answer.headers["Connection"] == "close"


@pytest.mark.parametrize("kind", ["raw", "preamble", "field"])
def test_a_body_that_trickles_is_given_up(tight, kind):
    head = {
        "raw": PUT + b"Content-Length: 5000000\r\n\r\n",
        "preamble": FORM + b"Content-Length: 5000000\r\n\r\n",
        "field": FORM
        + b'Content-Length: 5000000\r\n\r\n--b\r\nContent-Disposition: form-data; name="name"; filename="x"\r\n\r\n',
    }[kind]
    with Wire(tight, timeout=0.1) as wire:
        wire.send(head)
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            wire.send(b"x\n")
            try:
                answer = wire.answer()
                break
            except TimeoutError:
                wire._file = wire.sock.makefile("rb")
        assert_shape(answer, 408, "request_timeout")


def test_a_body_that_is_fast_enough_but_endless_meets_the_deadline(tmp_path):
    env = UNLIMITED | {"IMGPRO_UPLOADS_DEADLINE_S": "0.7s"}
    with running(tmp_path / "data", env) as server, Wire(server, timeout=0.05) as wire:
        wire.send(PUT + b"Content-Length: 15000000\r\n\r\n")
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            wire.send(b"x" * 4000)
            try:
                answer = wire.answer()
                break
            except TimeoutError:
                wire._file = wire.sock.makefile("rb")
        assert_shape(answer, 408, "request_timeout")


@pytest.mark.parametrize("where", ["file", "memory"])
def test_a_reader_that_takes_nothing_is_cut(tight, where, photos):
    found = tight.must_upload((photos / ("photo-12mp-gps.jpg" if where == "file" else "photo-2mp.jpg")).read_bytes())
    assert (found["filesize"] > 2 * 1024 * 1024) is (where == "file")
    path = found["src"].removeprefix(tight.base)
    whole = tight.get(path)
    assert whole.headers["Server"] == "imgpro"  # whether the answer is written whole or streamed
    assert whole.headers["X-Request-Id"]
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(20)
    sock.connect(("127.0.0.1", tight.port))
    before = connections(tight)
    request = b"GET %s HTTP/1.1\r\n%s\r\n" % (path.encode(), HOST)
    sock.sendall(request if where == "file" else request * 9)
    assert tight.get(path).body == whole.body  # others are served meanwhile
    deadline = time.monotonic() + 15
    while connections(tight) >= before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert connections(tight) < before
    sock.close()


def connections(server):
    """Count sockets of the server process that belong to connections."""
    port = f":{server.port:04X}"
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    return sum(row[1].endswith(port) and row[3] == "01" for row in rows)


# Floods


def cut(wire, piece, within_s=30.0):
    """Send the same bytes again and again; tell whether the server ends that."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not wire.send(piece):
            return True
    return False


def test_an_endless_chunked_body_is_cut_at_the_limit(tight):
    with Wire(tight) as wire:
        wire.send(CHUNKED)
        piece = b"%x\r\n" % 1048576 + bytes(1048576) + b"\r\n"
        assert cut(wire, piece)
        assert_shape(wire.answer(), 413, "file_too_large")


@pytest.mark.parametrize("line", [b"x" * 1000 + b"\n", b"\n", b"x" * 60_000], ids=["lines", "breaks", "no breaks"])
def test_an_endless_preamble_is_cut(tight, line):
    with Wire(tight) as wire:
        wire.send(FORM + b"Transfer-Encoding: chunked\r\n\r\n")
        block = (line * (65536 // len(line) + 1))[:65536]
        piece = b"%x\r\n" % len(block) + block + b"\r\n"
        assert cut(wire, piece)
        assert_shape(wire.answer(), 400, "bad_request")


@pytest.mark.parametrize("inside", [b"", b"x" * 8000], ids=["empty", "full"])
def test_a_flood_of_parts_is_refused(tight, inside):
    parts = [(f"field{number}", None, inside) for number in range(100)]
    body, kind = multipart([*parts, ("file", "x.png", PNG)])
    with Wire(tight) as wire:
        head = b"POST /v1/upload HTTP/1.1\r\n%sContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n"
        wire.send(head % (HOST, kind.encode()))
        wire.send(b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")
        assert_shape(wire.answer(), 400, "bad_request")


def test_bytes_behind_the_form_are_not_read_for_ever(tight):
    body, kind = multipart([("file", "x.png", PNG)])
    with Wire(tight) as wire:
        head = b"POST /v1/upload HTTP/1.1\r\n%sContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n"
        wire.send(head % (HOST, kind.encode()) + b"%x\r\n" % len(body) + body + b"\r\n")
        piece = b"10000\r\n" + b"e" * 65536 + b"\r\n"
        assert cut(wire, piece)


HEADERS = {
    "many": b"".join(b"X-%d: x\r\n" % number for number in range(70)),
    "very many": b"".join(b"X-%d: x\r\n" % number for number in range(50_000)),
    "a long value": b"X-A: " + b"x" * 9000 + b"\r\n",
    "a long name": b"X" * 9000 + b": x\r\n",
}


@pytest.mark.parametrize("kind", HEADERS)
def test_floods_of_headers_are_refused(tight, kind):
    assert_shape(ask(tight, b"GET /healthz HTTP/1.1\r\n" + HOST + HEADERS[kind] + b"\r\n"), 400, "bad_request")


def test_trailers_and_chunk_extensions_are_bounded(tight):
    trailers = b"".join(b"X-%d: x\r\n" % number for number in range(5000))
    with Wire(tight) as wire:
        wire.send(CHUNKED + b"%x\r\n" % len(PNG) + PNG + b"\r\n0\r\n" + trailers + b"\r\n")
        assert_shape(wire.answer(), 400)
    with Wire(tight) as wire:
        wire.send(CHUNKED + b"1;")
        assert cut(wire, b"x" * 65536)


def test_connections_of_one_network_are_capped_and_freed(tight):
    held = [Wire(tight) for _ in range(MAX_PER_NETWORK * 2)]
    refused = sum(closed_at_once(wire) for wire in held)
    assert MAX_PER_NETWORK <= refused <= MAX_PER_NETWORK + 4
    for wire in held:
        wire.__exit__()
    assert eventually(lambda: tight.get("/healthz").status == 200)
    held = [Wire(tight) for _ in range(MAX_PER_NETWORK - 2)]
    assert tight.get("/healthz").status == 200
    for wire in held:
        wire.__exit__()


def test_the_cap_in_all_leaves_places_again(tmp_path):
    """With a trusted proxy nothing is counted per network: the bound in all is what holds."""
    env = TIGHT | {"IMGPRO_SERVER_MAX_CONNECTIONS": "8", "IMGPRO_SERVER_TRUSTED_PROXIES": "127.0.0.1"}
    with running(tmp_path / "data", env) as server:
        held = [Wire(server) for _ in range(20)]
        assert sum(closed_at_once(wire) for wire in held) == 12
        for wire in held:
            wire.__exit__()
        assert eventually(lambda: server.get("/healthz").status == 200)
        assert server.must_upload(PNG)["format"] == "png"
        assert complaints(server) == []


def closed_at_once(wire):
    wire.sock.settimeout(0.03)
    try:
        return wire.sock.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def eventually(holds, within_s=10.0):
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if holds():
                return True
        except OSError:
            pass
        time.sleep(0.05)
    return False


def test_a_crowd_that_hangs_up_in_every_state(tight):
    starts = [b"", b"GET", b"GET / HTTP/1.1\r\n", put(PNG)[:-9], CHUNKED, CHUNKED + b"ff", FORM + b"\r\n", b"\x16\x03"]

    def hang_up(start):
        for abrupt in (False, True):
            with socket.create_connection(("127.0.0.1", tight.port)) as sock:
                if abrupt:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                with contextlib.suppress(OSError):
                    sock.sendall(start)

    threads = [threading.Thread(target=hang_up, args=(start,)) for start in starts * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# Shapes that smuggle


CHUNK = b"%x\r\n" % len(PNG) + PNG + b"\r\n"
MALFORMED = {
    "length and chunks": PUT + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": PUT + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": PUT + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "the same length twice": PUT + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": PUT + b"Content-Length: 5, 5\r\n\r\nhello",
    "a signed length": PUT + b"Content-Length: +5\r\n\r\nhello",
    "a negative length": PUT + b"Content-Length: -5\r\n\r\nhello",
    "a length in hex": PUT + b"Content-Length: 0x5\r\n\r\nhello",
    "a length beyond 64 bits": PUT + b"Content-Length: 99999999999999999999999\r\n\r\nhello",
    "an empty length": PUT + b"Content-Length: \r\n\r\nhello",
    "an unknown coding": PUT + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNK + b"0\r\n\r\n",
    "chunked and more": PUT + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNK + b"0\r\n\r\n",
    "chunked twice": PUT + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNK + b"0\r\n\r\n",
    "a blank before the colon": PUT + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNK + b"0\r\n\r\n",
    "a chunk size of letters": CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n",
    "a negative chunk": CHUNKED + b"-5\r\nabc\r\n0\r\n\r\n",
    "a chunk of 0x": CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",
    "a chunk beyond 64 bits": CHUNKED + b"f" * 17 + b"\r\nabc\r\n0\r\n\r\n",
    "a chunk size ended by LF": CHUNKED + b"3\nabc\r\n0\r\n\r\n",
    "a chunk without its end": CHUNKED + b"3\r\nabcXX0\r\n\r\n",
    "a folded header": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X-A: b\r\n c\r\n\r\n",
    "lines ended by LF": b"GET /healthz HTTP/1.1\nHost: x\n\n",
    "a bare CR": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X-A: b\rX-B: d\r\n\r\n",
    "NUL in a header": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X-A: b\0c\r\n\r\n",
    "a header without a colon": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X-A\r\n\r\n",
    "a header without a name": b"GET /healthz HTTP/1.1\r\n" + HOST + b": x\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "authority form": b"GET evil.example:443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "asterisk form": b"GET * HTTP/1.1\r\n" + HOST + b"\r\n",
    "absolute form with a bad port": b"GET http://a:99999/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "absolute form with a bad address": b"GET http://[::1/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "HTTP/1.2": b"GET /healthz HTTP/1.2\r\n" + HOST + b"\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 500,
    "NUL": bytes(100),
    "an unknown method": b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method in small letters": b"get / HTTP/1.1\r\n" + HOST + b"\r\n",
    "a blank in the target": b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
    "a long target": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "bare bytes in the target": b"GET /\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n",
    "bare bytes in the query": b"GET /t/AAAAAAAAAAAA.png?sig=\xff HTTP/1.1\r\n" + HOST + b"\r\n",
    "NUL in the target": b"GET /\0 HTTP/1.1\r\n" + HOST + b"\r\n",
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_requests_are_refused_and_nothing_behind_them_is_heard(tight, kind):
    victim = tight.must_upload(PNG)
    delete = b"DELETE %s HTTP/1.1\r\n%s\r\n" % (victim["delete_url"].removeprefix(tight.base).encode(), HOST)
    with Wire(tight) as wire:
        wire.send(MALFORMED[kind] + delete)
        assert_shape(wire.answer(), 400, "bad_request")
        assert wire.ends()
    assert tight.get(victim["url"]).status == 200


def test_only_one_of_the_two_readings_of_http_1_0_is_possible(tight):
    """HTTP/1.0 has no chunks: whatever is made of the body, the connection ends with the answer."""
    with Wire(tight) as wire:
        wire.send(CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\nGET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
        answer = wire.answer()
        assert_shape(answer, answer.status)
        assert wire.ends()


# Targets, Host, versions


@pytest.mark.parametrize(
    "target",
    [
        b"/%zz%%%e0", b"/t/%00.png", b"/t/%2e%2e/%2e%2e/etc/passwd", b"/static/../../etc/passwd", b"/static/..%2f..%2fetc",
        b"/%F0%9F%8C%8D%E2%80%AE", b"//evil.example/x", b"/t/AAAAAAAAAAAA.png?sig=%ff%fe&size=%ff", b"/v1/%ed%a0%80",
        b"/oembed?url=%ff%fe%00", b"/t/AAAAAAAAAAAA.%C5%BF%C5%BF%C5%BF?size=%C5%BF", b"/%E0%B9%80" * 300, b"/v1/media/%00%0d%0a",
        b"/AAAAAAAAAAAA/delete?token=%ff", b"/AAAAAAAAAAAA?sig=%ed%a0%80", b"/\xc2\xa0".replace(b"\xc2\xa0", b"%C2%A0"), b"/?",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"DELETE", b"OPTIONS"])
def test_odd_targets(tight, target, method):
    target = target + (b"&" if b"?" in target else b"?") + b"x=" + SECRET.encode()
    answer = ask(tight, b"%s %s HTTP/1.1\r\n%s\r\n" % (method, target, HOST), method.decode())
    assert answer.status in (200, 204, 404, 405), answer
    if answer.status in (404, 405) and method != b"HEAD":
        assert_shape(answer, answer.status)
    assert b"evil" not in answer.body


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080"])
def test_the_absolute_form_names_no_host(tight, host):
    answer = ask(tight, f"GET http://{host}/ HTTP/1.1\r\nHost: pictures.test\r\n\r\n".encode())
    assert answer.status == 200
    assert b"evil" not in answer.body
    found = tight.must_upload(PNG)
    path = found["src"].removeprefix(tight.base)
    assert ask(tight, f"GET http://{host}{path} HTTP/1.1\r\nHost: pictures.test\r\n\r\n".encode()).body == PNG


BAD_HOSTS = [
    "", "evil.example/<script>", "a@evil.example", "evil.example:99999", "evil.example:", ":80", "[::zz]", "[::1", "evil example",
    "evil\"onx=", "evil.example?x", "evil.example#x", "evil.example\\x", "-evil", "evil-", "ev%69l", "évil", "a" * 300, "<b>evil",
]  # fmt: skip


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_a_bad_host_is_refused_where_links_are_needed_and_shown_nowhere(tight, host):
    line = b"Host: " + host.encode() + b"\r\n"
    found = tight.must_upload(PNG)
    stored = len(list((tight.data / "blobs").rglob("*")))
    other = encode(picture("RGB", (33, 21)), "PNG")
    upload = b"PUT /v1/upload/x HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n" % (line, len(other)) + other
    for request in (
        upload,
        b"GET / HTTP/1.1\r\n" + line + b"\r\n",
        b"GET /%s HTTP/1.1\r\n" % found["id"].encode() + line + b"\r\n",
        b"GET /v1/media/%s HTTP/1.1\r\n" % found["id"].encode() + line + b"\r\n",
    ):
        answer = ask(tight, request)
        assert_shape(answer, 400, "bad_request")
        assert b"evil" not in answer.body
    assert len(list((tight.data / "blobs").rglob("*"))) == stored  # refused before, not after, it was stored
    src = found["src"].removeprefix(tight.base).encode()
    assert ask(tight, b"GET " + src + b" HTTP/1.1\r\n" + line + b"\r\n").status in (200, 400)


def test_a_good_host_gives_links_in_lower_case(tight):
    for host in ("Pictures.Test:8080", "192.168.1.4", "[2001:DB8::1]:80", "nas", "my_box.local"):
        answer = ask(tight, put(PNG).replace(b"pictures.test", host.encode()))
        assert answer.json()["src"].startswith(f"http://{host.lower()}/t/")


def test_forwarded_headers_of_strangers_change_nothing(tight):
    extra = b"X-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: https\r\nForwarded: host=evil.example\r\nX-Forwarded-For: 1.2.3.4\r\n"
    assert ask(tight, put(PNG, extra)).json()["src"].startswith("http://pictures.test/")
    assert "1.2.3.4" not in tight.log()


def test_http_1_0(tight):
    with Wire(tight) as wire:
        wire.send(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert wire.answer().json()["status"] == "ok"
        assert wire.ends()
    answer = ask(tight, put(PNG).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert answer.status == 201
    assert_shape(ask(tight, b"GET / HTTP/1.0\r\n\r\n"), 400, "bad_request")


@pytest.mark.parametrize("kind", ["websocket", "h2c"])
def test_an_upgrade_is_ignored(tight, kind):
    extra = b"Connection: Upgrade\r\nUpgrade: %s\r\n" % kind.encode()
    assert ask(tight, put(PNG, extra)).status == 201
    with Wire(tight) as wire:
        request = b"GET /healthz HTTP/1.1\r\n" + HOST + extra + b"\r\n"
        wire.send(request + request)
        assert wire.answer().status == 200
        try:
            assert wire.answer().status == 200
        except EOFError:
            assert kind == "h2c"  # closing instead of answering the next one is allowed, too


@pytest.mark.parametrize("value", ["100-continue", "100-Continue"])
def test_the_body_is_asked_for_when_it_is_wanted(tight, value):
    with Wire(tight) as wire:
        wire.send(
            put(b"", b"Expect: %s\r\n" % value.encode()).replace(b"Content-Length: 0", b"Content-Length: %d" % len(PNG))
        )
        assert wire.answer().status == 100
        wire.send(PNG)
        assert wire.answer().status == 201
    assert ask(tight, put(PNG, b"Expect: 100-continue\r\n")).status in (100, 201)


@pytest.mark.parametrize(
    ("extra", "length", "status"),
    [(b"", 10**9, 413), (b"Authorization: Bearer img_live_x\r\n", 500, 401), (b"Host: b\r\n", 500, 400)],
)
def test_the_body_is_not_asked_for_when_it_is_refused(tight, extra, length, status):
    head = PUT + b"Expect: 100-continue\r\nContent-Length: %d\r\n%s\r\n" % (length, extra)
    answer = ask(tight, head)
    assert_shape(answer, status)
    assert answer.headers["Connection"] == "close" or status == 400


@pytest.mark.parametrize("value", ["magic", "100-continue, magic", "", "200-ok"])
def test_other_expectations_are_refused(tight, value):
    for head in (put(PNG), b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"):
        answer = ask(tight, head.replace(HOST, HOST + b"Expect: %s\r\n" % value.encode()))
        assert answer.status in ((417,) if value else (417, 200, 201))
        if answer.status == 417:
            assert_shape(answer, 417, "bad_request")


# Pipelining


def test_pipelined_uploads_are_answered_in_order(tight):
    pictures = [encode(picture("RGB", (20 + number, 10)), "PNG") for number in range(6)]
    with Wire(tight) as wire:
        wire.send(b"".join(put(body) for body in pictures))
        assert [wire.answer().json()["width"] for _ in pictures] == [20, 21, 22, 23, 24, 25]


def test_requests_behind_a_refused_upload_are_not_heard(tight):
    inner = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
    with Wire(tight) as wire:
        wire.send(PUT + b"Content-Length: %d\r\n\r\n" % 10**9 + inner)
        assert_shape(wire.answer(), 413, "file_too_large")
        assert wire.ends()
    with Wire(tight) as wire:
        wire.send(put(inner, b"Authorization: x\r\n") + inner)
        assert_shape(wire.answer(), 401, "unauthorized")
        with contextlib.suppress(EOFError):
            assert wire.answer().json()["status"] == "ok"  # the whole body was there: the next request is a real one
        assert wire.ends()


def test_a_flood_of_pipelined_requests_without_a_reader_is_bounded(tight):
    before = resident_kb(tight)
    with Wire(tight, timeout=0.8) as wire:
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        flood = (b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n") * 2000
        for _ in range(300):
            if not wire.send(flood):
                break
        assert resident_kb(tight) - before < 30_000


def resident_kb(server):
    with open(f"/proc/{server.pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])


# What comes from outside never shapes an answer or a log line


def test_line_breaks_cannot_enter_headers_or_log(tight):
    path = b"/v1/upload/a%0d%0aSet-Cookie:%20evil=1%0d%0a%22.png"
    answer = ask(tight, put(PNG).replace(b"/v1/upload/x.png", path))
    assert answer.status == 201
    assert "Set-Cookie" not in answer.headers
    shown = tight.get(answer.json()["src"].replace("http://pictures.test", "") + "?download=1")
    assert "Set-Cookie" not in shown.headers
    form = (
        FORM.replace(HOST, HOST + b"Accept: text/html%0d%0aX: y\r\n") + b"Content-Length: 190\r\n\r\n--b\r\n"
        b'Content-Disposition: form-data; name="na%0d%0ame"; filename="x%0d%0aX-Evil: 1.png"\r\n\r\n'
    )
    with Wire(tight) as wire:
        wire.send(form)
        assert "X-Evil" not in wire.answer().headers
    time.sleep(0.4)
    assert "evil" not in tight.log().lower()


def test_names_in_the_path_are_decoded_once(tight):
    answer = ask(tight, put(PNG).replace(b"/v1/upload/x.png", b"/v1/upload/50%2525%20off.png"))
    assert answer.json()["name"] == "50%25 off.png"
    assert (
        ask(tight, put(PNG).replace(b"/v1/upload/x.png", b"/v1/upload/..%2F..%2Fetc%2Fx.png")).json()["name"] == "x.png"
    )


@pytest.mark.parametrize("accept", ["text/html", "*/*"])
def test_tokens_never_reach_the_log(tight, accept):
    found = tight.must_upload(PNG, public="false")
    token = found["delete_url"].partition("token=")[2]
    signature = found["signed_src"].partition("sig=")[2]
    tight.get(found["signed_src"], Accept=accept, Referer=found["delete_url"])
    tight.get(found["delete_url"], Accept=accept)
    tight.get(found["delete_url"] + "x", Accept=accept)
    tight.request("DELETE", f"/v1/media/{found['id']}?token={token}", headers={"Authorization": f"Bearer {SECRET}"})
    time.sleep(0.4)
    log = tight.log()
    for secret in (token, signature, found["id"], token.partition(".")[2][:12]):
        assert secret not in log
