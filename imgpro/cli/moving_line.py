"""Pictures that wait to be brought. Those that are fetched from other servers wait until their host is free."""

import re
import threading
import time
from collections import Counter, OrderedDict
from typing import Final

from imgpro.cli.moving_judge import Fitted

FILES_WAITING: Final = 64
URLS_WAITING: Final = 1_000  # so that a host that has to be waited for does not keep others from their turn
PER_HOST: Final = 2
_AUTHORITY_END: Final = re.compile(r"[/?#\\]")


class Waiting:
    """One picture in the line, and how often it was tried."""

    def __init__(self, fitted: Fitted) -> None:
        self.fitted = fitted
        # By hand: what is no address is for the server to refuse.
        self.host = _AUTHORITY_END.split(fitted.incoming.url.partition("://")[2], 1)[0].rpartition("@")[2].lower()
        self.tries = 0


class Line:
    """A bounded line: one thread puts pictures in, several take them out."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: OrderedDict[int, Waiting] = OrderedDict()
        self._count = 0
        self._asked: Counter[str] = Counter()
        self._until_s: dict[str, float] = {}
        self._ended = False

    def put(self, fitted: Fitted) -> None:
        """Add a picture, once there is room."""
        waiting = Waiting(fitted)
        with self._changed:
            room = URLS_WAITING if waiting.host else FILES_WAITING
            while len(self._waiting) >= room and not self._ended:
                self._changed.wait()
            self._add(waiting)

    def take(self) -> Waiting | None:
        """Return the first that may go now; None once there will be no more."""
        with self._changed:
            while True:
                now_s, wake_s = time.monotonic(), None
                for number, waiting in self._waiting.items():
                    until_s = self._until_s.get(waiting.host, 0.0) if waiting.host else 0.0
                    if waiting.host and self._asked[waiting.host] >= PER_HOST:
                        continue
                    if until_s > now_s:
                        wake_s = until_s if wake_s is None else min(wake_s, until_s)
                        continue
                    del self._waiting[number]
                    self._asked[waiting.host] += 1
                    self._changed.notify_all()
                    return waiting
                if self._ended and not self._waiting and not self._asked:
                    return None
                self._changed.wait(None if wake_s is None else wake_s - now_s)

    def done(self, waiting: Waiting) -> None:
        """Say that a picture that was taken needs nothing more."""
        with self._changed:
            self._leave(waiting)

    def again(self, waiting: Waiting, pause_s: float) -> None:
        """Put a picture back, and leave its host alone for so long."""
        with self._changed:
            waiting.tries += 1
            until_s = time.monotonic() + pause_s
            self._until_s[waiting.host] = max(until_s, self._until_s.get(waiting.host, 0.0))
            self._leave(waiting)
            self._add(waiting)

    def end(self, *, at_once: bool = False) -> None:
        """Say that no more are put in; `at_once`: those that wait are not brought either."""
        with self._changed:
            self._ended = True
            if at_once:
                self._waiting.clear()
                self._asked.clear()
            self._changed.notify_all()

    def _add(self, waiting: Waiting) -> None:
        self._count += 1
        self._waiting[self._count] = waiting
        self._changed.notify_all()

    def _leave(self, waiting: Waiting) -> None:
        self._asked[waiting.host] -= 1
        if self._asked[waiting.host] <= 0:
            del self._asked[waiting.host]
        self._changed.notify_all()
