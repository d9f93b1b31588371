"""A stop in the middle of everything: what was acknowledged stays, nobody is answered that the server failed."""

import contextlib
import http.client
import io
import json
import os
import pty
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from tests.crash.test_server import busy_upload, descendants
from tests.law import check_disk
from tests.load import small_png
from tests.patience import wait_until
from tests.servers import ROOT, UNLIMITED, Server, bearer, held_open, multipart, running
from tests.signed_in import by_key

pytestmark = pytest.mark.crash

ENV = {
    **UNLIMITED,
    "IMGPRO_PLANS_UNLIMITED": "true",
    "IMGPRO_IMAGING_WORKERS": "2",
    "IMGPRO_LOG_ACCESS": "false",
    "IMGPRO_SERVER_STOP_DEADLINE_S": "15",
}


def is_large(path: Path) -> bool:
    """Tell whether a file that may go at any moment is that of a large picture."""
    try:
        return path.stat().st_size > 300_000
    except FileNotFoundError:
        return False


class Clients:
    """Threads that upload and look, each on its kept connection or always on a new one, until they are refused."""

    def __init__(self, server: Server, count: int) -> None:
        self.server = server
        self.acknowledged: dict[str, bytes] = {}
        self.statuses: Counter[int] = Counter()
        self.wrong: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(count)]

    def start(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def join(self) -> "Clients":
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a client hangs"
        return self

    def _run(self, number: int) -> None:
        dice = random.Random(number)
        connection = None
        while True:
            if connection is None or number % 2:
                if connection is not None:
                    connection.close()
                connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=40)
            try:
                closed = self._ask(connection, dice)
            except ConnectionRefusedError:
                return
            except (OSError, http.client.HTTPException, AttributeError):
                connection = None
                if self.server.process is None or self.server.process.poll() is not None:
                    return
                continue
            if closed:
                connection = None

    def _ask(self, connection: http.client.HTTPConnection, dice: random.Random) -> bool:
        if self.acknowledged and dice.random() < 0.4:
            path, body = dice.choice(list(self.acknowledged.items()))
            connection.request("GET", path)
        else:
            path, body = "", small_png(dice, dice.choice((48, 300)))
            content, kind = multipart([("file", "x.png", body)])
            connection.request("POST", "/v1/upload", content, {"Content-Type": kind})
        response = connection.getresponse()
        answer = response.read()
        self.statuses[response.status] += 1
        if response.status == 201:
            self.acknowledged["/t/" + json.loads(answer)["id"] + ".png"] = body
        elif response.status != 200 or answer != body:
            self.wrong.append(f"{path}: {response.status} {answer[:100]!r}")
        return response.getheader("Connection") == "close"


def test_a_stop_among_kept_and_new_connections(tmp_path):
    """Two rounds; in the second a large picture is in work, too."""
    with running(tmp_path / "data", ENV) as server:
        owed: dict[str, bytes] = {}
        for number in range(2):
            clients = Clients(server, 10).start()
            deadline = time.monotonic() + 30
            while len(clients.acknowledged) < 40 * (number + 1):
                assert time.monotonic() < deadline, clients.statuses
                time.sleep(0.01)
            answers, body = [], busy_upload(server)
            large = threading.Thread(target=lambda: answers.append(server.upload(body)))  # noqa: B023
            if number:
                large.start()
                wait_until(lambda: not large.is_alive() or any(map(is_large, (server.data / "tmp").iterdir())))  # noqa: B023
            assert server.stop() == 0
            clients.join()
            if number:
                large.join()
                assert [answer.status for answer in answers] == [201]
            assert clients.wrong == []
            assert set(clients.statuses) == {200, 201}
            assert "Traceback" not in server.log()
            owed.update(clients.acknowledged)
            assert check_disk(server.data) == 0
            server.start()
            for path, body in owed.items():
                assert server.get(path).body == body


def test_streams_end_cleanly(tmp_path):
    """A stream of events ends where an event ends; an archive on its way arrives whole."""
    with running(tmp_path / "data", ENV) as server:
        key = server.new_key("ann@example.org")
        pictures = [small_png(random.Random(number), 900) for number in range(12)]
        ids = [server.must_upload(body, f"{n}.png", key=key)["id"] for n, body in enumerate(pictures)]
        browser = by_key(server, key)
        events = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        events.request("GET", "/v1/events", headers=bearer(key))
        stream = events.getresponse()
        archive = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        archive.request("POST", "/dashboard/zip", browser.form(ids=",".join(ids)), browser.headers())
        download = archive.getresponse()
        begun = download.read(100_000)
        server.process.send_signal(signal.SIGTERM)
        told = stream.read()
        assert told.endswith(b"\n\n"), "cut within an event"
        time.sleep(0.5)
        found = zipfile.ZipFile(io.BytesIO(begun + download.read()))
        assert found.testzip() is None
        assert sorted(found.read(name) for name in found.namelist()) == sorted(pictures)
        assert server.process.wait(15) == 0
        assert "Traceback" not in server.log()
        for each in (stream, events, download, archive):
            each.close()


def test_slow_uploads_end_within_the_deadline_and_others_are_cut(tmp_path):
    with running(tmp_path / "data", {**ENV, "IMGPRO_SERVER_STOP_DEADLINE_S": "3"}) as server:
        content, kind = multipart([("file", "x.png", small_png(random.Random(1), 400))])
        headers = {"Content-Type": kind}
        with (
            held_open(server, "POST", "/v1/upload", content, headers) as rest,
            held_open(server, "POST", "/v1/upload", content, headers),
        ):
            begun = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            time.sleep(1.5)
            answer = rest()
            assert answer.status == 201
            assert server.process.wait(15) == 0
            assert time.monotonic() - begun > 2.5, "the other one has its time, too"
        server.start()
        assert server.get(f"/t/{answer.json()['id']}.png").status == 200
        assert check_disk(server.data) == 0
        assert server.stop() == 0


def unready(tmp_path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "imgpro", "run", "--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0"],
        env={**os.environ, **ENV}, cwd=ROOT, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_a_stop_at_any_moment_of_the_start(tmp_path):
    """From the first import to the banner: it ends, without a trace of it that disturbs the next start."""
    with running(tmp_path / "data", ENV) as server:
        path = f"/t/{server.must_upload(small_png(random.Random(1)), 'x.png')['id']}.png"
        assert server.stop() == 0
    begun = time.monotonic()
    with running(tmp_path / "data", ENV) as server:
        whole_s = time.monotonic() - begun
        assert server.stop() == 0
    for share in (0.4, 0.7, 0.8, 0.9):
        process = unready(tmp_path)
        time.sleep(whole_s * share)
        process.send_signal(signal.SIGTERM if share != 0.8 else signal.SIGINT)
        _, words = process.communicate(timeout=20)
        assert process.returncode in (0, 130, -signal.SIGTERM, -signal.SIGINT), (share, words)
        assert b"Traceback" not in words or process.returncode == 130, words
        assert not list((tmp_path / "data/tmp").iterdir())
    with running(tmp_path / "data", ENV) as server:
        assert server.get(path).status == 200
        assert check_disk(server.data) == 0
        assert server.stop() == 0


def test_ctrl_c_at_a_terminal_goes_to_all_and_ends_the_work_first(tmp_path):
    """The terminal signals the whole group; the workers must not die of it before the server has let them go."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "imgpro", "run", "--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0"],
        env={**os.environ, **ENV}, cwd=ROOT, stdin=follower, stdout=follower, stderr=follower,
        start_new_session=True, preexec_fn=lambda: __import__("fcntl").ioctl(0, 0x540E, 0),  # TIOCSCTTY
    )  # fmt: skip
    os.close(follower)
    said, server = b"", Server(tmp_path / "data", ENV)
    try:
        while (address := re.search(rb"http://127\.0\.0\.1:(\d+)\D", said)) is None:
            said += os.read(leader, 65536)
        server.process, server.port = process, int(address[1])
        assert len(descendants(process.pid)) == 3
        answers, body = [], busy_upload(server)
        client = threading.Thread(target=lambda: answers.append(server.upload(body)))
        client.start()
        wait_until(lambda: any(map(is_large, (tmp_path / "data/tmp").iterdir())))
        os.write(leader, b"\x03")
        client.join()
        assert [answer.status for answer in answers] == [201]
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        server.close()
        with contextlib.suppress(OSError):
            said += os.read(leader, 65536)
        os.close(leader)
    assert b"Traceback" not in said
    assert check_disk(tmp_path / "data") == 0


def test_other_signals(tmp_path):
    """Those that mean nothing to a server do nothing; SIGQUIT ends it at once, as it ends any program."""
    with running(tmp_path / "data", ENV) as server:
        path = f"/t/{server.must_upload(small_png(random.Random(1)), 'x.png')['id']}.png"
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGWINCH, signal.SIGHUP):
            server.process.send_signal(number)
            time.sleep(0.1)
            assert server.get(path).status == 200, number
        server.process.send_signal(signal.SIGQUIT)
        assert server.process.wait(60) == -signal.SIGQUIT
        server.start()
        assert server.get(path).status == 200
        assert server.stop() == 0
        assert check_disk(server.data) == 0


def test_the_port_is_free_again_at_once(tmp_path):
    with running(tmp_path / "data", ENV) as server:
        kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        kept.request("GET", "/healthz")
        kept.getresponse().read()
        assert server.stop() == 0
        with socket.create_server(("127.0.0.1", server.port)):
            kept.close()
