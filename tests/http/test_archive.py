"""`POST /dashboard/zip` over HTTP: what is in it, for whom, and what becomes of it when somebody leaves."""

import contextlib
import io
import re
import signal
import socket
import sqlite3
import time
import zipfile

import pytest

from tests.patience import wait_until
from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, Server, running
from tests.signed_in import by_key

SMALL = encoded(make_image("RGB", (40, 30)), "PNG")
EMAIL = iter(range(1_000))


def noise(side=1_000):
    """Return a picture of several megabytes."""
    from PIL import Image

    return encoded(Image.effect_noise((side, side), 90).convert("RGB"), "PNG", compress_level=0)


@pytest.fixture
def key(server):
    return server.new_key(f"zip{next(EMAIL)}@example.org")


@pytest.fixture
def browser(server, key):
    return by_key(server, key)


def opened(answer):
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"] == "application/zip"
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    found = zipfile.ZipFile(io.BytesIO(answer.body))
    assert found.testzip() is None
    return {name: found.read(name) for name in found.namelist()}


def test_the_chosen_ones_as_they_are_stored(server, key, browser):
    images = [
        server.must_upload(SMALL, f"{name}.png", key=key, public=public)
        for name, public in (("ä", "false"), ("b", "true"))
    ]
    other = server.must_upload(SMALL, "not this.png", key=key)
    answer = browser.post("/dashboard/zip", ids=",".join(image["id"] for image in images))
    stored = server.get(f"/t/{other['id']}.png").body
    assert opened(answer) == {"b.png": stored, "ä.png": stored}
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert re.search(r'filename="pictures-\d{4}-\d\d-\d\d\.zip"', answer.headers["Content-Disposition"])


def test_a_page_can_ask_whether_they_would_come(server, key, browser):
    image = server.must_upload(SMALL, "a.png", key=key)
    answer = browser.post("/dashboard/zip", ids=image["id"], check="1")
    assert (answer.status, answer.body) == (204, b"")
    assert browser.post("/dashboard/zip", ids="abcdefghijkl", check="1").status == 422


def test_all_that_a_list_finds(server, key, browser):
    for number in range(3):
        server.must_upload(SMALL, f"{number}.png", key=key, namespace="trip" if number else "work", tags=f"t{number}")
    assert set(opened(browser.post("/dashboard/zip"))) == {"work/0.png", "trip/1.png", "trip/2.png"}
    answer = browser.post("/dashboard/zip", namespace="trip")
    assert set(opened(answer)) == {"1.png", "2.png"}
    assert "trip-" in answer.headers["Content-Disposition"]
    assert set(opened(browser.post("/dashboard/zip", tags="t0,t2", date="today"))) == {"work/0.png", "trip/2.png"}
    assert browser.post("/dashboard/zip", date="last-week").status == 422


def test_nothing_of_others(server, key, browser):
    other = server.must_upload(SMALL, "theirs.png", key=server.new_key(f"zip{next(EMAIL)}@example.org"))
    mine = server.must_upload(SMALL, "mine.png", key=key)
    assert browser.post("/dashboard/zip", ids=other["id"]).status == 422
    assert set(opened(browser.post("/dashboard/zip", ids=f"{other['id']},{mine['id']}"))) == {"mine.png"}


@pytest.mark.parametrize(
    ("headers", "fields", "status"),
    [
        ({"Cookie": "x=1"}, {}, 401),
        ({"Origin": "https://evil.example"}, {}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, {}, 403),
        ({}, {"csrf": "x"}, 403),
        ({}, {"ids": "no"}, 422),
        ({}, {"ids": ""}, 422),
        ({}, {"from": "yesterday"}, 422),
        ({}, {"ids": "a" * 2_000_000}, 413),
    ],
)
def test_refused(server, key, browser, headers, fields, status):
    server.must_upload(SMALL, key=key)
    answer = browser.post("/dashboard/zip", headers=headers, **fields)
    assert answer.status == status, answer


def test_a_key_alone_is_no_session(server, key):
    body = b"ids=x"
    kind = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": f"Bearer {key}"}
    assert server.request("POST", "/dashboard/zip", body, kind).status == 401


class Slow:
    """A client that takes its time, over a socket with little room."""

    def __init__(self, browser, **fields):
        body = browser.form(**fields)
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        self.socket.settimeout(30)
        self.socket.connect(("127.0.0.1", browser.server.port))
        lines = [f"{name}: {value}" for name, value in browser.headers(Host="127.0.0.1").items()]
        lines = [line if not line.startswith("Origin") else "Sec-Fetch-Site: same-origin" for line in lines]
        head = "\r\n".join(["POST /dashboard/zip HTTP/1.1", *lines, f"Content-Length: {len(body)}", "", ""])
        self.socket.sendall(head.encode() + body)
        self.begun = self.socket.recv(2_000)
        assert b" 200 OK" in self.begun, self.begun

    def rest(self):
        found = bytearray(self.begun)
        while chunk := self.socket.recv(1 << 16):
            found += chunk
            length = int(re.search(rb"Content-Length: (\d+)", found)[1])
            begin = found.index(b"\r\n\r\n") + 4
            if len(found) - begin >= length:
                return bytes(found[begin:])
        return None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


@pytest.fixture(scope="module")
def big():
    return noise()


def test_what_is_deleted_while_it_is_sent(server, key, browser, big):
    images = [server.must_upload(big + bytes(0), f"{number}.png", key=key) for number in range(6)]
    with Slow(browser) as slow:
        # The newest is under way; the oldest has not been opened yet.
        assert server.api("DELETE", f"/v1/media/{images[0]['id']}", key=key).status == 200
        body = slow.rest()
    with zipfile.ZipFile(io.BytesIO(body)) as found:
        assert found.testzip() is None
        assert found.namelist() == ["5.png", "4.png", "3.png", "2.png", "1.png", "left-out.txt"]
        assert found.read("left-out.txt").startswith(b"0.png\n")


def test_who_leaves_or_waits_keeps_no_place(server, key, browser, big):
    for number in range(4):
        server.must_upload(big, f"{number}.png", key=key)
    with Slow(browser), Slow(browser):
        answer = browser.post("/dashboard/zip")
        assert (answer.status, answer.json()["error"]) == (503, "busy")
        assert answer.headers["Retry-After"] == "30"
        page = browser.post("/dashboard/zip", headers={"Accept": "text/html"})
        assert "As many archives as this server makes" in page.body.decode()
    deadline = time.monotonic() + 10
    while (answer := browser.post("/dashboard/zip")).status == 503:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(opened(answer)) == 4


def test_it_ends_with_the_session(server, key, browser, big):
    for number in range(10):
        server.must_upload(big, f"{number}.png", key=key)
    with Slow(browser) as slow:
        time.sleep(1.1)
        assert browser.post("/dashboard/sign-out", everywhere="1").status == 303
        assert slow.rest() is None


def test_it_does_not_hold_up_the_end_of_the_server(tmp_path, big):
    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_SERVER_STOP_DEADLINE_S": "1"}) as server:
        key = server.new_key("ann@example.org")
        for number in range(6):
            server.must_upload(big, f"{number}.png", key=key)
        with Slow(by_key(server, key)):
            begun = time.monotonic()
            assert server.stop(signal.SIGTERM, 30) == 0
            assert time.monotonic() - begun < 20
        assert "Traceback" not in server.log()


def test_an_original_that_is_lost_is_left_out_named_and_looked_after(tmp_path):
    with running(tmp_path / "data", UNLIMITED) as server:
        key = server.new_key("ann@example.org")
        images = [
            server.must_upload(encoded(make_image("RGB", (40 + n, 30)), "PNG"), f"{n}.png", key=key) for n in (1, 2)
        ]
        stored = server.get(f"/t/{images[1]['id']}.png").body
        (lost,) = [
            path for path in (server.data / "blobs").rglob("*") if path.is_file() and path.read_bytes() != stored
        ]
        lost.unlink()
        found = opened(by_key(server, key).post("/dashboard/zip", ids=",".join(image["id"] for image in images)))
        assert found.pop("2.png") == stored
        assert "1.png" in "".join(content.decode() for content in found.values())
        with contextlib.closing(sqlite3.connect(server.data / "imgpro.db")) as conn:
            wait_until(lambda: conn.execute("SELECT hex(digest) FROM damaged_blobs").fetchall())
            assert conn.execute("SELECT lower(hex(digest)) FROM damaged_blobs").fetchall() == [(lost.name,)]


def test_a_large_archive_is_not_held_in_memory(server, key, browser, big):
    """A pace of its own would be asserting on time: the most memory that the process ever had is not."""
    for number in range(12):
        server.must_upload(big, f"{number}.png", key=key)
    before = peak_bytes(server)
    with Slow(browser) as slow:
        assert len(slow.rest()) > 12 * len(big) * 0.9
    assert peak_bytes(server) - before < 15_000_000


def peak_bytes(server: Server):
    with open(f"/proc/{server.pid}/status") as status:
        return int(re.search(r"VmHWM:\s+(\d+)", status.read())[1]) * 1024


def test_the_gallery_page_offers_it_without_script(server, key, browser):
    server.must_upload(SMALL, "a.png", key=key, namespace="trip")
    page = browser.get("/dashboard?namespace=trip&date=today").body.decode()
    form = re.search(r'<form action="\./dashboard/zip".*?</form>', page, re.DOTALL)[0]
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))
    assert fields == {"csrf": browser.token, "namespace": "trip", "date": "today"}
    assert list(opened(browser.post("/dashboard/zip", **fields))) == ["a.png"]
