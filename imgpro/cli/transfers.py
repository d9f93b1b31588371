"""Many files to one server: a few at a time, each tried again while that makes sense, outcomes in the files' order."""

import os
import queue
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from imgpro.cli.pictures import Picture
from imgpro.cli.remote import Outcome, Server

AT_ONCE: Final = 3
# Between two tries of one file. Where no connection comes about at all, only the first two.
PAUSES_S: Final = (0.3, 1.0, 2.0, 4.0)
ABSENT_PAUSES: Final = 2
LONGEST_PAUSE_S: Final = 60.0  # a person who waits at a terminal would rather know


class Stopped(BaseException):
    """The transfer was broken off. A BaseException, so that nothing takes it for a network's failure."""


class Transfers:
    """Sends pictures in threads of its own. `stop` makes them end at their next piece of a file."""

    def __init__(self, server: Server, fields: Mapping[str, str]) -> None:
        self._server = server
        self._fields = fields
        self._on_bytes: Callable[[int], None] = lambda _: None
        self._stopped = threading.Event()
        self._faults: list[BaseException] = []
        self.outcomes: list[Outcome | None] = []

    def stop(self) -> None:
        """Start no more files and break off those under way."""
        self._stopped.set()

    def send(self, pictures: Sequence[Picture], on_bytes: Callable[[int], None], *, keep_going: bool) -> None:
        """Send them all; `outcomes` then has one for each, None where sending was not tried any more.

        `on_bytes` hears, in any thread, how many bytes went out, and those that went in vain as a negative number.
        After a failure no further file is begun, unless `keep_going` and another file might do better.
        """
        self.outcomes = [None] * len(pictures)
        self._on_bytes = on_bytes
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for index in range(len(pictures)):
            waiting.put(index)
        enough = threading.Event()

        def work() -> None:
            try:
                while not enough.is_set():
                    index = waiting.get_nowait()
                    outcome = self._send_patiently(pictures[index])
                    self.outcomes[index] = outcome
                    if outcome.verdict != "sent" and not (keep_going and outcome.verdict == "refused"):
                        enough.set()
            except (queue.Empty, Stopped):
                pass
            except BaseException as fault:  # noqa: BLE001  # raised again where it is seen
                self._faults.append(fault)
                enough.set()

        # As daemons: whoever presses Ctrl+C does not wait for a server's answer.
        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(AT_ONCE, len(pictures)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._faults:
            raise self._faults[0]

    def _send_patiently(self, picture: Picture) -> Outcome:
        key = f"upload-{os.urandom(16).hex()}"  # the same for all tries: none makes a second picture
        for tries, pause_s in enumerate((*PAUSES_S, None), 1):
            outcome = self._server.upload(picture, self._fields, key, self._count)
            absent = outcome.never_connected and tries > ABSENT_PAUSES
            if outcome.verdict != "later" or pause_s is None or absent:
                break
            wait_s = max(outcome.wait_s, pause_s * random.uniform(0.5, 1.0))  # noqa: S311  # spreads clients out
            if wait_s > LONGEST_PAUSE_S:
                break
            if self._stopped.wait(wait_s):
                raise Stopped
        return outcome

    def _count(self, more: int) -> None:
        if self._stopped.is_set():
            raise Stopped
        self._on_bytes(more)
