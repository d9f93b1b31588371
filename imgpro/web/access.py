"""One access line per request, gathered and written together off the request's path.

Route templates, network addresses and the ids of keys only: no query strings, so no secret ever reaches the log.
"""

import asyncio
import functools
import json
import logging
import sys
import time
from typing import Final, Protocol

_FLUSH_S: Final = 0.25
_MAX_LINES: Final = 2_000

Line = tuple[float, str, str, int, int, float, str, str, str]


class Stream(Protocol):
    """What text is written to."""

    def write(self, text: str, /) -> object:
        """Take some lines."""

    def flush(self) -> object:
        """Pass them on."""


class AccessLog:
    """Collects lines of `(time, method, route, status, bytes, seconds, client, request id, key id)`.

    In the journal lines have a priority, and no time of their own.
    """

    def __init__(self, *, as_json: bool, stream: Stream | None = None, journal: bool = False) -> None:
        self._as_json = as_json
        self._journal = journal
        self._stream: Stream = stream or sys.stderr
        self._lines: list[Line] = []
        self._timer: asyncio.TimerHandle | None = None

    def note(
        self, method: str, route: str, status: int, sent: int, took_s: float, client: str, request_id: str, key: str
    ) -> None:
        """Take one line; `key` is the public id of the key that was used, empty for none."""
        self._lines.append((time.time(), method, route, status, sent, took_s, client, request_id, key))
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
        write = _as_json if self._as_json else _for_journal if self._journal else _as_text
        mark = "<6>" if self._journal else ""
        try:
            self._stream.write("".join([mark + write(line) for line in lines]))
            self._stream.flush()
        except (OSError, ValueError):
            logging.getLogger(__name__).debug("the access log could not be written")


def _as_text(line: Line) -> str:
    return f"{_clock(int(line[0]))} {_for_journal(line)}"


def _for_journal(line: Line) -> str:
    _, method, route, status, sent, took_s, client, request_id, key = line
    who = f" {key}" if key else ""
    return f"{_words(method, route, status, sent, client)} {took_s * 1000:.1f}ms {request_id}{who}\n"


def _as_json(line: Line) -> str:
    # Put together by hand: a JSON encoder costs several times as much, and most lines share most of their fields.
    at, method, route, status, sent, took_s, client, request_id, key = line
    fields = _fields(method, route, status, sent, client)
    who = f', "key": "{key}"' if key else ""
    return f'{{"time": {at:.3f}, {fields}, "duration_s": {took_s:.6f}, "request_id": "{request_id}"{who}}}\n'


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
