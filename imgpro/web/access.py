"""One access line per request, gathered and written together off the request's path.

Route templates and network addresses only: no query strings, so no token ever reaches the log.
"""

import asyncio
import functools
import json
import logging
import sys
import time
from typing import Final, TextIO

_FLUSH_S: Final = 0.25
_MAX_LINES: Final = 2_000

Line = tuple[float, str, str, int, int, float, str, str]


class AccessLog:
    """Collects lines of `(time, method, route, status, bytes, seconds, client, request id)`."""

    def __init__(self, *, as_json: bool, stream: TextIO | None = None) -> None:
        self._as_json = as_json
        self._stream = stream or sys.stderr
        self._lines: list[Line] = []
        self._timer: asyncio.TimerHandle | None = None

    def note(
        self, method: str, route: str, status: int, sent: int, started: float, client: str, request_id: str
    ) -> None:
        """Take one line; `started` is a `time.perf_counter()` value."""
        self._lines.append(
            (time.time(), method, route, status, sent, time.perf_counter() - started, client, request_id)
        )
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_S, self.flush)
        elif len(self._lines) >= _MAX_LINES:
            self.flush()

    def flush(self) -> None:
        """Write what has gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if not lines:
            return
        write = _as_json if self._as_json else _as_text
        try:
            self._stream.write("".join([write(line) for line in lines]))
            self._stream.flush()
        except (OSError, ValueError):
            logging.getLogger(__name__).debug("the access log could not be written")


def _as_text(line: Line) -> str:
    at, method, route, status, sent, seconds, client, request_id = line
    return f"{_clock(int(at))} {_words(method, route, status, sent, client)} {seconds * 1000:.1f}ms {request_id}\n"


def _as_json(line: Line) -> str:
    # Put together by hand: a JSON encoder costs several times as much, and most lines share most of their fields.
    at, method, route, status, sent, seconds, client, request_id = line
    fields = _fields(method, route, status, sent, client)
    return f'{{"time": {at:.3f}, {fields}, "duration_s": {seconds:.6f}, "request_id": "{request_id}"}}\n'


@functools.lru_cache(maxsize=4)
def _clock(at_s: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at_s))


@functools.lru_cache(maxsize=1024)
def _fields(method: str, route: str, status: int, sent: int, client: str) -> str:
    facts = {"event": "request", "method": method, "route": route, "status": status, "sent_bytes": sent}
    return json.dumps({**facts, "client": client})[1:-1]


@functools.lru_cache(maxsize=1024)
def _words(method: str, route: str, status: int, sent: int, client: str) -> str:
    # Quoted like JSON: neither may bring a line break into the log.
    return f"{json.dumps(method)[1:-1]} {route} {status} {sent}B {json.dumps(client)[1:-1]}"
