"""Something between a client and the server that does to requests what networks and proxies do."""

import contextlib
import socket
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

PASS, DROP, SWALLOW = "pass", "drop the connection before the request", "drop it before the answer"


class Between:
    """Takes requests one connection each. `plan` says for each what becomes of it: the above, or bytes to answer with.

    When the plan is used up, everything passes. `seen` holds the heads of all requests. With `below`, a path that
    stands before the server's own is taken away, as a proxy that serves several sites does.
    """

    def __init__(
        self, port: int, plan: list[str | bytes], context: ssl.SSLContext | None = None, below: str = ""
    ) -> None:
        self._port = port
        self._plan = deque(plan)
        self._context = context
        self._below = below.encode()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self.port = self._listener.getsockname()[1]
        self.seen: list[str] = []
        self.most_at_once = 0
        self._now = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            step = self._plan.popleft() if self._plan else PASS
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        answer = b""
        try:
            with contextlib.suppress(OSError, ssl.SSLError):
                if self._context is not None:
                    client = self._context.wrap_socket(client, server_side=True)
                if step != DROP:
                    answer = self._answer(client, step)
        finally:
            with self._lock:
                self._now -= 1  # before its client can know and send the next one
            with contextlib.suppress(OSError, ssl.SSLError):
                client.sendall(answer)
            client.close()

    def _answer(self, client: socket.socket, step: str | bytes) -> bytes:
        request = _read_request(client)
        if not request:
            return b""
        self.seen.append(request.partition(b"\r\n\r\n")[0].decode())
        if isinstance(step, bytes):
            return step
        with socket.create_connection(("127.0.0.1", self._port), timeout=30) as server:
            request = request.replace(b" " + self._below, b" ", 1)
            server.sendall(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            answer = b""
            while more := server.recv(65_536):
                answer += more
        return answer if step == PASS else b""


def _read_request(client: socket.socket) -> bytes:
    client.settimeout(30)
    taken = b""
    while b"\r\n\r\n" not in taken:
        more = client.recv(65_536)
        if not more:
            return b""
        taken += more
    head, _, body = taken.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        more = client.recv(65_536)
        if not more:
            return b""
        body += more
    return head + b"\r\n\r\n" + body


@contextlib.contextmanager
def between(
    port: int, plan: list[str | bytes], certificate: Path | None = None, *, below: str = ""
) -> Iterator[Between]:
    """Stand before the server on `port`; with `certificate` (a PEM file with its key) behind TLS."""
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    found = Between(port, plan, context, below)
    try:
        yield found
    finally:
        found.close()
