"""What a service manager is told: starting, ready, reloading, stopping, alive (sd_notify(3)).

Without one nothing happens. Knows nothing of what the server does in between.
"""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Final

from imgpro.errors import Busy, ImgproError

log = logging.getLogger(__name__)

# While the server starts: how much time is asked for, and how often. A migration of a large database takes minutes.
_EXTENSION_S: Final = 60.0
_EXTEND_EVERY_S: Final = 10.0
_LAST_WORDS_S: Final = 15.0  # after the last request: mail, database, caches
_SEND_DEADLINE_S: Final = 2.0


class Supervisor:
    """Talks to whoever named a socket in `NOTIFY_SOCKET`. Its methods raise nothing.

    It takes its variables out of the environment: programs that the server starts must not speak in its name.
    """

    def __init__(self, environ: MutableMapping[str, str] | None = None) -> None:
        env = os.environ if environ is None else environ
        self._address = env.pop("NOTIFY_SOCKET", "")
        self._watchdog_s = _watchdog_s(env.pop("WATCHDOG_USEC", ""), env.pop("WATCHDOG_PID", ""))
        self._status = ""

    @property
    def is_there(self) -> bool:
        """Tell whether anybody listens; what this process writes then goes to a journal."""
        return bool(self._address)

    @contextlib.asynccontextmanager
    async def starting(self, status: str) -> AsyncIterator[None]:
        """Ask for more time, again and again, for as long as the block takes and the event loop turns."""
        self.tell(f"STATUS={status}")
        task = asyncio.create_task(self._extend(), name="start extension")
        try:
            yield
        finally:
            task.cancel()

    def ready(self, status: str = "") -> None:
        """Say that requests are answered, also at the end of a reload. Without `status` the last one holds again."""
        self._status = status or self._status
        self.tell("READY=1", f"STATUS={self._status}")

    def reloading(self) -> None:
        """Say that settings are read again; `ready` ends it."""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=Reading the settings again")

    def stopping(self, deadline_s: float = 0.0) -> None:
        """Say that the end has begun, and that requests under way may take `deadline_s`."""
        self.tell("STOPPING=1", "STATUS=Finishing what is under way", _extension(deadline_s + _LAST_WORDS_S))

    async def watch(self, ping: Callable[[], Awaitable[None]]) -> None:
        """Say twice in each period of the watchdog that the server lives, each time after `ping` has come back.

        A ping that fails has come back as well: a full disk is no better after a restart. One that is Busy has not.
        """
        silent = False
        while self._watchdog_s:
            try:
                await ping()
            except Busy:
                if not silent:
                    log.warning("the database does not answer; the watchdog gets no sign of life until it does")
                silent = True
                await asyncio.sleep(self._watchdog_s / 20)
                continue
            except ImgproError as problem:
                log.warning("the database cannot write: %s", problem.message)
            silent = False
            self.tell("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_s / 2)

    def tell(self, *lines: str) -> None:
        """Send lines of `NAME=value`."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(_SEND_DEADLINE_S)
            sock.sendto("\n".join(lines).encode(), address)

    async def _extend(self) -> None:
        while self._address:
            self.tell(_extension(_EXTENSION_S))
            await asyncio.sleep(_EXTEND_EVERY_S)


def _extension(seconds: float) -> str:
    return f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}"


def _watchdog_s(period_us: str, pid: str) -> float:
    """Return the watchdog's period, 0.0 where none waits for us.

    The parent's id is ours as well: the loader of a one-file executable passes the variable on as it was.
    """
    if not period_us.isdigit() or (pid and pid not in (str(os.getpid()), str(os.getppid()))):
        return 0.0
    return int(period_us) / 1_000_000
