"""Standard error as the log sees it: written by a thread of its own, so that whoever does not read it stops nobody.

A pipe that nobody empties, a full disk or a terminal on hold would otherwise hold up every request. Knows nothing of
what the lines mean.
"""

import errno
import logging
import os
import select
import threading
from collections import deque
from typing import Final

log = logging.getLogger(__name__)

MAX_BYTES: Final = 1024 * 1024  # of lines that wait; later ones are counted and dropped
PIECE_BYTES: Final = 64 * 1024
PATIENCE_MS: Final = 1_000


class LogWriter:
    """Takes text from any thread and writes it to a descriptor, in order. Its methods raise nothing and never wait."""

    def __init__(self, fd: int, max_bytes: int = MAX_BYTES) -> None:
        self._fd = fd
        self._max_bytes = max_bytes
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._lost = 0
        self._busy = False
        self._changed = threading.Condition()  # may be taken again by what is logged while it is held
        self._thread: threading.Thread | None = None

    def write(self, text: str) -> int:
        """Take some whole lines."""
        data = text.encode("utf-8", "backslashreplace")
        with self._changed:
            # What its own thread says, of lines that were lost, has a place even then.
            own = threading.current_thread() is self._thread
            if not own and self._waiting_bytes + len(data) > self._max_bytes:
                self._lost += data.count(b"\n")
                return len(text)
            self._waiting.append(data)
            self._waiting_bytes += len(data)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="log", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return len(text)

    def flush(self) -> None:
        """Do nothing: lines are on their way already."""

    def close(self, deadline_s: float = 1.0) -> None:
        """Wait until everything is written, at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._busy, deadline_s)

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._waiting))
                piece = self._take()
                self._busy = True
            written = self._put(piece)
            with self._changed:
                lost, self._lost = self._lost, 0
                if not written:
                    self._lost, lost = lost + piece.count(b"\n"), 0
            if lost:
                log.warning("%d lines of this log were lost: nothing took them", lost)

    def _take(self) -> bytes:
        taken = [self._waiting.popleft()]
        while self._waiting and len(taken[0]) + sum(map(len, taken[1:])) + len(self._waiting[0]) <= PIECE_BYTES:
            taken.append(self._waiting.popleft())
        piece = b"".join(taken)
        self._waiting_bytes -= len(piece)
        return piece

    def _put(self, data: bytes) -> bool:
        """Write all of it, however long that takes; False where it failed."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    return False
                self._wait()  # somebody who shares this descriptor made it non-blocking
        return True

    def _wait(self) -> None:
        poller = select.poll()
        poller.register(self._fd, select.POLLOUT)
        poller.poll(PATIENCE_MS)
