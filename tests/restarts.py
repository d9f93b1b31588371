"""Clients of every kind that go on while a server is restarted, and count what they lose."""

import contextlib
import http.client
import threading
import time
from typing import Self

from tests.servers import multipart


class Load:
    """Clients of every kind that go on through restarts and note what went wrong."""

    def __init__(self, host: str, port: int, path: str, picture: bytes) -> None:
        """`path` is that of a picture there, `picture` something to upload."""
        self._host = host
        self._port = port
        self._path = path
        self._picture = picture
        self._stop = threading.Event()
        self.answers = 0
        self.closes = 0  # answers to a kept connection that say it closes
        self.failures: list[str] = []
        kinds = [self._new_each_time] * 3 + [self._kept] * 3 + [self._uploads]
        self._threads = [threading.Thread(target=self._run, args=(kind,)) for kind in kinds]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self, kind):
        while not self._stop.is_set():
            try:
                kind()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{kind.__name__}: {error!r}")

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._host, self._port, timeout=30)

    def _ask(self, connection, method, path, body=None, headers=None, wanted=200):
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        response.read()
        self.answers += 1
        if response.status != wanted:
            self.failures.append(f"{method} {path}: {response.status}")
        return response

    def _new_each_time(self) -> None:
        with contextlib.closing(self._connect()) as connection:
            self._ask(connection, "GET", self._path)

    def _kept(self) -> None:
        """Ask on one connection until the server says that it closes, as browsers and proxies do."""
        with contextlib.closing(self._connect()) as connection:
            while not self._stop.is_set():
                if self._ask(connection, "GET", self._path).will_close:
                    self.closes += 1
                    return
                time.sleep(0.02)

    def _uploads(self) -> None:
        content, kind = multipart([("file", "p.png", self._picture)])
        with contextlib.closing(self._connect()) as connection:
            self._ask(connection, "POST", "/v1/upload", content, {"Content-Type": kind}, wanted=201)
