"""One TCP connection, byte for byte: for requests that no HTTP library would send."""

import http.client
import socket
from typing import Self

from tests.servers import Answer, Server

SHAPE = {"error", "message", "action"}
ACTIONS = {"upgrade", "verify", "wait", "redirect", "fix"}


class Wire:
    """Sends bytes as they are and reads answers one by one, also those of pipelined requests."""

    def __init__(self, server: Server, timeout: float = 20.0) -> None:
        self.sock = socket.create_connection(("127.0.0.1", server.port), timeout=timeout)
        self._file = self.sock.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.sock.close()

    def send(self, data: bytes) -> bool:
        """Send; return False if the other side has closed already."""
        try:
            self.sock.sendall(data)
        except OSError:
            return False
        return True

    def answer(self, method: str = "GET") -> Answer:
        """Read the next answer, interim ones too. Raises EOFError when the connection ends instead."""
        try:
            line = self._file.readline()
        except ConnectionResetError:
            line = b""
        if not line:
            raise EOFError("no answer")
        status = int(line.split()[1])
        headers = http.client.parse_headers(self._file)
        length = int(headers.get("Content-Length", "0"))
        body = b"" if method == "HEAD" or status in (100, 204, 304) else self._file.read(length)
        return Answer(status, headers, body)

    def ends(self) -> bool:
        """Wait for the other side to close; False if it sends more bytes instead or keeps silent."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False


def ask(server: Server, data: bytes, method: str = "GET") -> Answer:
    """Send one request on a connection of its own and return the answer."""
    with Wire(server) as wire:
        wire.send(data)
        return wire.answer(method)


def assert_shape(answer: Answer, status: int, code: str | None = None) -> None:
    """Check the one shape of errors."""
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8", answer
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert answer.headers["Server"] == "imgpro"
    assert answer.headers["X-Request-Id"]
    body = answer.json()
    assert SHAPE <= set(body) <= SHAPE | {"details", "usage"}, body
    assert body["message"].endswith("."), body
    assert body["action"]["type"] in ACTIONS
    assert body["action"]["label"]
    if code is not None:
        assert body["error"] == code, body
    if body["action"]["type"] == "wait":
        assert body["action"]["seconds"] >= 1
        assert answer.headers["Retry-After"] == str(body["action"]["seconds"])
    else:
        assert "Retry-After" not in answer.headers


def complaints(server: Server, *expected: str) -> list[str]:
    """Return log lines that no request from outside should ever cause, but for `expected` ones."""
    words = ("Traceback", '"level": "error"', '"level": "warning"', "never retrieved", "never awaited", "Warning")
    lines = [line for line in server.log().splitlines() if any(word in line for word in words)]
    return [line for line in lines if not any(word in line for word in expected)]
