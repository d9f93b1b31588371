"""The server's clock set back and forward while it serves: nothing is lost, nobody is locked out, nothing fails.

The wall clock alone is moved, by a library before the C library's; the monotonic one goes on, as on a real machine.
"""

import contextlib
import http.client
import random
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clocks import Clock, clock_library
from tests.law import check_disk
from tests.load import small_png
from tests.servers import UNLIMITED, Server, bearer, held_open, multipart
from tests.signed_in import by_key

pytestmark = pytest.mark.crash

DAY_S = 86_400
YEAR_S = 365 * DAY_S
ENV = {
    "IMGPRO_IMAGING_WORKERS": "1",
    "IMGPRO_PLANS_UNLIMITED": "true",
    "IMGPRO_LOG_ACCESS": "false",
    "IMGPRO_ANONYMOUS_UPLOADS_PER_HOUR": "5",
}


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Path:
    """The library that moves the clock."""
    return clock_library(tmp_path_factory.mktemp("clock"))


@contextlib.contextmanager
def clocked(tmp_path: Path, library: Path, env: dict[str, str], ahead_s: int = 0) -> Iterator[tuple[Server, Clock]]:
    clock = Clock(tmp_path, library, ahead_s)
    server = Server(tmp_path / "data", {**env, **clock.environment()})
    try:
        yield server.start(), clock
        assert "Traceback" not in server.log()
    finally:
        server.close()


class Household:
    """Pictures, a key and a browser from before the clock was touched, and what must still hold of them."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.dice = random.Random(1)
        self.key = server.new_key("ann@example.org")
        self.browser = by_key(server, self.key)
        self.bodies = {name: small_png(self.dice) for name in ("anonymous", "kept", "private", "repeated")}
        self.anonymous = server.must_upload(self.bodies["anonymous"], "a.png")
        self.kept = server.must_upload(self.bodies["kept"], "k.png", key=self.key)
        self.private = server.must_upload(self.bodies["private"], "p.png", key=self.key, public="false")
        self.repeated = self.repeat()
        self.etag = server.get(self.kept["src"]).headers["ETag"]

    def repeat(self) -> dict:
        """Send the same upload once more, as a client does that got no answer."""
        answer = self.server.upload(
            self.bodies["repeated"], "r.png", key=self.key, headers={"Idempotency-Key": "only once"}
        )
        assert answer.status == 201, answer
        found: dict = answer.json()
        return found

    def check_kept(self) -> None:
        """What has no end is served whatever the time, and its owner may do everything with it."""
        server = self.server
        assert server.get(self.kept["src"]).body == self.bodies["kept"]
        assert server.get(self.kept["src"], If_None_Match=self.etag).status == 304
        assert server.get(self.kept["src"].replace(".png", ".webp") + "?size=s").status == 200
        assert server.get(self.private["src"], **bearer(self.key)).body == self.bodies["private"]
        name = f"n{self.dice.random()}"
        assert server.api("PATCH", f"/v1/media/{self.kept['id']}", {"name": name}, key=self.key).json()["name"] == name
        listed = server.api("GET", "/v1/media?limit=100", key=self.key).json()
        assert self.kept["id"] in str(listed)
        assert server.get("/readyz").status == 200

    def check_new(self) -> None:
        """New pictures, with and without a key, are taken, found and deleted."""
        for key in (None, self.key):
            body = small_png(self.dice)
            found = self.server.must_upload(body, "new.png", key=key)
            assert self.server.get(found["src"]).body == body
            assert self.server.request("POST", found["delete_url"].removeprefix(self.server.base)).status == 200
            assert self.server.get(found["src"]).status == 404

    def check_all(self) -> None:
        """The clock is right again: everything is as if it had always been."""
        self.check_kept()
        assert self.server.get(self.anonymous["src"]).body == self.bodies["anonymous"]
        assert self.browser.get("/dashboard/account").status == 200
        assert self.repeat()["id"] == self.repeated["id"]


@pytest.mark.parametrize("ahead_s", [-DAY_S, 40 * DAY_S, 10 * YEAR_S], ids=["back", "forward", "far"])
def test_a_clock_that_is_wrong_for_a_while(tmp_path, library, ahead_s):
    with clocked(tmp_path, library, ENV) as (server, clock):
        house = Household(server)
        clock.set(server, ahead_s)
        house.check_kept()
        house.check_new()
        # What ends later than now by the wrong clock is not shown; nothing of it is gone.
        status = server.get(house.anonymous["src"]).status
        assert status == (200 if ahead_s < 30 * DAY_S else 404)
        later = by_key(server, house.key)
        assert later.get("/dashboard/account").status == 200
        clock.set(server, 0)
        house.check_all()
        house.check_new()
        assert later.get("/dashboard/account").status == 200, "who signed in meanwhile stays signed in for now"
        assert server.stop() == 0
        assert check_disk(server.data) == 0
        # And over a restart.
        server.start()
        house.check_all()
        assert server.stop() == 0


def test_the_window_of_anonymous_uploads_is_neither_shut_nor_open_for_ever(tmp_path, library):
    with clocked(tmp_path, library, ENV) as (server, clock):
        dice = random.Random(2)

        def until_refused():
            statuses = []
            while 429 not in statuses:
                statuses.append(server.upload(small_png(dice), "x.png").status)
                assert len(statuses) < 10, statuses
            return statuses.count(201)

        assert until_refused() == 5
        for ahead_s in (10 * YEAR_S, 10 * YEAR_S - 2 * DAY_S, -DAY_S):
            clock.set(server, ahead_s)
            assert until_refused() == 5, ahead_s
        clock.set(server, 3_601)
        assert until_refused() == 5


def test_a_box_without_a_battery_clock_starts_in_1970(tmp_path, library):
    with clocked(tmp_path, library, {**ENV, **UNLIMITED}, 600 - int(time.time())) as (server, clock):
        house = Household(server)
        house.check_kept()
        house.check_new()
        assert server.stop() == 0
        server.start()
        house.check_all()
        clock.set(server, 0)
        house.check_kept()
        house.check_new()
        assert by_key(server, house.key).get("/dashboard/account").status == 200
        assert server.stop() == 0
        assert check_disk(server.data) == 0
        with contextlib.closing(sqlite3.connect(server.data / "imgpro.db")) as conn:
            assert conn.execute("SELECT count(*) FROM images").fetchone() == (4,), "a jump deletes nothing by itself"


def test_time_limits_of_requests_do_not_go_by_the_wall_clock(tmp_path, library):
    """An upload that is under way, a stream of events and a connection that waits live through a jump."""
    with clocked(tmp_path, library, ENV) as (server, clock):
        house = Household(server)
        line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        line.request("GET", "/v1/events", headers=bearer(house.key))
        stream = line.getresponse()
        content, kind = multipart([("file", "slow.png", small_png(house.dice))])
        with held_open(server, "POST", "/v1/upload", content, {"Content-Type": kind}) as rest:
            clock.set(server, 10 * YEAR_S)
            time.sleep(1.2)
            clock.set(server, -DAY_S)
            assert rest().status == 201
        clock.set(server, 0)
        server.must_upload(small_png(house.dice), "e.png", key=house.key)
        told = b""
        while b"e.png" not in told:
            told += stream.read1(65536)
            assert told, "the stream was cut"
        stream.close()
        line.close()
