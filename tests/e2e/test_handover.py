"""A service manager in small, which holds the server's socket: what it hears, and that restarts lose no request."""

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pictures import encoded, make_image
from tests.restarts import Load
from tests.servers import ROOT, UNLIMITED, Server
from tests.transcripts import Transcript

RESTARTS = 3
START_S = 30.0
# Becomes the server, so that it knows the pid; the socket has to be descriptor 3.
HAND_OVER = """import os, sys
os.dup2(int(sys.argv[1]), 3)
os.execve(sys.argv[2], sys.argv[2:], {**os.environ, "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})
"""


class Manager:
    """Starts, stops and hears a server on a socket that outlives it."""

    def __init__(self, folder: Path, listener: socket.socket, **env: str) -> None:
        self.listener = listener
        self.said: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._ears = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ears.bind(str(folder / "notify"))
        self._ears.settimeout(0.5)
        self._log = Transcript()
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("IMGPRO_")}
        self._env = {**inherited, **UNLIMITED, **env, "NOTIFY_SOCKET": str(folder / "notify")}
        # The address in the settings cannot be listened on: that nobody tries is part of what is tested.
        self._command = [
            sys.executable,
            "-m",
            "imgpro",
            "run",
            "--data",
            str(folder / "data"),
            "--listen",
            "192.0.2.1:1",
        ]

    def spawn(self) -> "subprocess.Popen[bytes]":
        number = self.listener.fileno()
        words = [sys.executable, "-c", HAND_OVER, str(number), *self._command]
        self.process = subprocess.Popen(
            words, env=self._env, cwd=ROOT, stdout=self._log, stderr=self._log, pass_fds=(number,)
        )
        return self.process

    def start(self) -> None:
        self.spawn()
        self.hear("READY=1")

    def hear(self, wanted: str) -> None:
        """Wait until the server has said something."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                lines = self._ears.recv(4096).decode().split("\n")
            except TimeoutError:
                assert self.process is None or self.process.poll() is None, self.log()
                continue
            self.said += lines
            if wanted in lines:
                return
        raise AssertionError(f"{wanted} was not said:\n{self.log()}")

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(40) == 0, self.log()

    def log(self) -> str:
        return self._log.text()

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._ears.close()
        self._log.close()


@pytest.fixture
def manage(tmp_path):
    with contextlib.ExitStack() as parts:

        def make(listener: socket.socket, **env: str) -> Manager:
            parts.callback(listener.close)
            manager = Manager(tmp_path, listener, **env)
            parts.callback(manager.close)
            return manager

        yield make


def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=1024)


@contextlib.contextmanager
def client(manager: Manager) -> Iterator[Server]:
    """Lend the tests' client for a server that it has not started."""
    made = Server(Path("unused"))
    made.port = manager.listener.getsockname()[1]
    yield made
    made.close()


def test_restarts_under_load_lose_no_request(manage):
    manager = manage(listener())
    manager.start()
    picture = encoded(make_image("RGB", (300, 200)), "PNG")
    with client(manager) as server:
        made = server.must_upload(picture)
        path = made["src"].removeprefix(server.base)
        with Load("127.0.0.1", server.port, path, picture) as load:
            for _ in range(RESTARTS):
                time.sleep(0.3)
                manager.stop()
                manager.start()
            time.sleep(0.3)
        assert load.failures == []
        assert load.closes >= RESTARTS  # kept connections were ended by word, not by force
        assert load.answers > 100
        assert server.get(path).body == picture


def test_a_manager_is_told_everything_and_nobody_else_can_speak(manage):
    manager = manage(listener(), WATCHDOG_USEC="400000")
    manager.start()
    port = manager.listener.getsockname()[1]
    assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in manager.said)
    assert any(line.startswith(f"STATUS=Answering on http://127.0.0.1:{port}, data in /") for line in manager.said)
    manager.hear("WATCHDOG=1")
    zygote = next(path for path in children(manager.process.pid))
    variables = Path(f"/proc/{zygote}/environ").read_bytes().decode()
    assert "NOTIFY" not in variables
    assert "LISTEN_" not in variables
    assert "WATCHDOG" not in variables
    manager.process.send_signal(signal.SIGHUP)
    manager.hear("RELOADING=1")
    manager.hear("READY=1")
    manager.stop()
    manager.hear("STOPPING=1")
    # Nobody with a terminal reads this: it is a journal, which keeps what it is told.
    assert "imgpro setup-link" in manager.log()
    assert "/setup?" not in manager.log()


def test_an_address_of_the_settings_that_the_socket_does_not_have_is_told(manage):
    manager = manage(listener())
    manager.start()
    port = manager.listener.getsockname()[1]
    assert f"server.listen is not in use: systemd holds the socket, on 127.0.0.1:{port}" in manager.log()


def test_the_watchdogs_signal_shows_where_it_hung(manage):
    manager = manage(listener())
    manager.start()
    manager.process.send_signal(signal.SIGABRT)
    assert manager.process.wait(START_S) == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in manager.log()
    assert "in _serve" in manager.log()  # of the thread that writes the database


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_a_socket_of_the_file_system_stays_its_owners(manage, tmp_path):
    path = tmp_path / "http.sock"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    sock.listen(16)
    manager = manage(sock)
    manager.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as visitor:
        visitor.connect(str(path))
        visitor.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert visitor.recv(100).startswith(b"HTTP/1.1 200 OK")
    manager.stop()
    assert path.is_socket()


def datagrams() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


def connected() -> socket.socket:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return socket.create_connection(held.getsockname())


@pytest.mark.parametrize(("make", "words"), [(datagrams, "ListenStream="), (connected, "Accept=no")])
def test_a_socket_that_takes_no_connections_is_refused_with_a_sentence(manage, make, words):
    manager = manage(make())
    assert manager.spawn().wait(START_S) == 78
    assert re.search(rf"^imgpro: Descriptor 3 is .*\nTry: .*{words}", manager.log(), re.MULTILINE), manager.log()


def test_a_descriptor_named_by_hand_is_used_too(tmp_path):
    with listener() as sock:
        command = [sys.executable, "-m", "imgpro", "run", "--data", str(tmp_path), "--listen", f"fd:{sock.fileno()}"]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, pass_fds=(sock.fileno(),)) as process:
            try:
                with contextlib.closing(http.client.HTTPConnection(*sock.getsockname(), timeout=START_S)) as connection:
                    connection.request("GET", "/healthz")
                    assert connection.getresponse().status == 200
            finally:
                process.terminate()
