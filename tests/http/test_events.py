"""`GET /v1/events` on a real server: what is told, to whom, and when the line is cut."""

import contextlib
import http.client
import json
import signal
import time

import pytest

from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, bearer, running

JPEG = encoded(make_image("RGB", (40, 30)), "JPEG")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("events"), UNLIMITED) as found:
        yield found


@pytest.fixture
def ann(server):
    return server.new_key(f"ann{time.time_ns()}@example.org")


class Line:
    """One open stream; `next` reads an event."""

    def __init__(self, server, key=None, headers=None):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        self.connection.request("GET", "/v1/events", headers={**bearer(key), **(headers or {})})
        self.answer = self.connection.getresponse()
        if self.answer.status == 200:
            self.block()  # the first says when to come back; the listener is there now

    def close(self):
        self.answer.close()
        self.connection.close()

    def block(self):
        """Return the lines up to an empty one; None at the end of the stream."""
        lines = []
        while line := self.answer.readline().decode().rstrip("\n"):
            lines.append(line)
        return lines or None

    def next(self):
        block = self.block()
        if block is None:
            return None
        assert not block[0].startswith(":"), "nothing was told for 15 seconds"
        fields = dict(line.split(": ", 1) for line in block)
        return fields["event"], json.loads(fields["data"])


@contextlib.contextmanager
def listening(server, key=None, headers=None):
    line = Line(server, key, headers)
    try:
        yield line
    finally:
        line.close()


def refused(server, key=None):
    with listening(server, key) as line:
        return line.answer.status


def test_it_is_a_stream_that_no_proxy_should_hold_back(server, ann):
    with listening(server, ann) as line:
        assert line.answer.status == 200
        assert line.answer.headers["Content-Type"].startswith("text/event-stream")
        assert line.answer.headers["Cache-Control"] == "private, no-store"
        assert line.answer.headers["X-Accel-Buffering"] == "no"


def test_what_happens_is_told_in_its_order(server, ann):
    with listening(server, ann) as line:
        made = server.must_upload(JPEG, "one.jpg", key=ann, public="false")
        kind, told = line.next()
        assert kind == "uploaded"
        assert (told["id"], told["name"]) == (made["id"], "one.jpg")
        assert server.get(told["signed_src"]).status == 200
        server.api("PATCH", f"/v1/media/{made['id']}", {"name": "two.jpg"}, key=ann)
        kind, told = line.next()
        assert (kind, told["name"]) == ("changed", "two.jpg")
        server.api("DELETE", f"/v1/media/{made['id']}", key=ann)
        assert line.next() == ("deleted", {"id": made["id"]})


def test_a_line_shows_a_picture_as_the_api_does(server, ann):
    with listening(server, ann) as line:
        made = server.must_upload(JPEG, key=ann)
        _, told = line.next()
    assert told == server.api("GET", f"/v1/media/{made['id']}", key=ann).json()


def test_nobody_hears_of_others(server, ann):
    other = server.new_key(f"ben{time.time_ns()}@example.org")
    with listening(server, ann) as line:
        server.must_upload(JPEG, key=other)
        server.must_upload(JPEG)
        mine = server.must_upload(JPEG, key=ann)
        assert line.next()[1]["id"] == mine["id"]


def test_a_key_that_its_owner_has_not_confirmed_hears_of_its_own_only(server):
    email = f"cam{time.time_ns()}@example.org"
    first, second = (server.new_key(email, verified=False) for _ in range(2))
    with listening(server, first) as line:
        server.must_upload(JPEG, key=second)
        mine = server.must_upload(JPEG, key=first)
        assert line.next()[1]["id"] == mine["id"]


@pytest.mark.parametrize("abilities", [["upload"], ["write"]])
def test_it_needs_a_key_that_may_read(server, abilities):
    assert refused(server) == 401
    key = server.new_key(f"dan{time.time_ns()}@example.org", abilities=abilities)
    assert refused(server, key) == 403


def test_a_revoked_key_hears_nothing_more(server, ann):
    made = server.api("POST", "/v1/keys", {"name": "second"}, key=ann).json()
    with listening(server, made["key"]) as line, listening(server, ann) as own:
        server.api("DELETE", f"/v1/keys/{made['key_id']}", key=ann)
        assert line.next() is None
        assert own.next() is None  # whoever may stay comes back
    assert refused(server, made["key"]) == 401


def test_who_does_not_listen_is_told_to_read_again(server, ann):
    with listening(server, ann) as line:
        # Large names make large events: more than the buffers between us hold, so that they have to wait.
        made = server.must_upload(JPEG, key=ann)["id"]
        for count in range(3_000):
            assert server.api("PATCH", f"/v1/media/{made}", {"description": f"{count} " * 350}, key=ann).status == 200
            if count % 500 == 499:
                server.get("/healthz")
        kinds = []
        while not kinds or kinds[-1] != "reset":
            kinds.append(line.next()[0])
        assert len(kinds) < 3_000


def test_not_endlessly_many_listen(server, ann):
    lines = [Line(server, ann) for _ in range(50)]
    assert [line.answer.status for line in lines] == [200] * 50
    with listening(server, ann) as more:
        assert more.answer.status == 429
        assert int(more.answer.headers["Retry-After"]) > 0
    for line in lines:
        line.close()
    assert soon_free(server, ann)


def test_an_account_that_anybody_can_make_has_few(server):
    key = server.new_key(f"fay{time.time_ns()}@example.org", verified=False)
    lines = [Line(server, key) for _ in range(6)]
    assert [line.answer.status for line in lines] == [200] * 5 + [429]
    for line in lines:
        line.close()


def soon_free(server, key):
    """Tell whether who hung up makes room before the next sign of life is due: nothing happens meanwhile."""
    deadline = time.monotonic() + 10
    while (status := refused(server, key)) != 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    return status == 200


def test_who_only_asks_for_the_headers_gets_them(server, ann):
    answer = server.request("HEAD", "/v1/events", headers=bearer(ann))
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/event-stream")


def test_the_server_stops_at_once_with_listeners(tmp_path):
    with running(tmp_path, UNLIMITED) as server:
        key = server.new_key("eve@example.org")
        with listening(server, key) as line:
            server.process.send_signal(signal.SIGTERM)
            assert line.next() is None
            assert server.process.wait(20) == 0
