"""Connections that speak TLS: counted from their first byte like all others, and given only so long to begin.

An event loop that serves TLS by itself tells nobody of a connection before its handshake is done: whoever begins one
and falls silent would hold a place that is counted nowhere. So connections are accepted here.
"""

import asyncio
import errno
import logging
import socket
from typing import Any, Final

from aiohttp import web

from imgpro.web.door import Connection, Door
from imgpro.web.tls import Certificate

log = logging.getLogger(__name__)

CLOSE_S: Final = 5.0  # for the other side's goodbye
LAST_S: Final = 1.0
PAUSE_S: Final = 0.5  # after running out of descriptors or memory
AT_ONCE: Final = 64  # accepted in a row, before others get their turn
_SCARCE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class SecureSite(web.BaseSite):
    """Answers on a bound socket over TLS, with the certificate that is in force when a connection comes."""

    def __init__(
        self, runner: web.AppRunner, sock: socket.socket, certificate: Certificate, deadline_s: float, backlog: int
    ) -> None:
        super().__init__(runner, ssl_context=certificate.context, backlog=backlog)
        self._sock = sock
        self._certificate = certificate
        self._deadline_s = deadline_s
        self._loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        """Where it listens."""
        return f"https://{self._sock.getsockname()}"

    async def start(self) -> None:
        """Begin."""
        await super().start()
        self._sock.listen(self._backlog)
        self._sock.setblocking(False)
        self._watch()

    async def stop(self) -> None:
        """Accept no more. Handshakes under way are let end for a moment: behind them may be somebody's request."""
        self._runner._check_site(self)
        self._runner._unreg_site(self)
        self._loop.remove_reader(self._sock)
        if self._pause is not None:
            self._pause.cancel()
        self._sock.close()
        if self._beginning:
            await asyncio.wait(tuple(self._beginning), timeout=LAST_S)
        for task in self._beginning:
            task.cancel()

    def _watch(self) -> None:
        self._loop.add_reader(self._sock, self._accept)

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _SCARCE:
                    log.debug("a connection was lost before it was accepted: %s", error)  # accept(2)
                    return
                log.error("no connection can be accepted: %s", error.strerror)
                self._loop.remove_reader(self._sock)
                self._pause = self._loop.call_later(PAUSE_S, self._watch)
                return
            self._take(sock, peer)

    def _take(self, sock: socket.socket, peer: Any) -> None:
        door = self._runner.server
        assert isinstance(door, Door)
        connection = door()
        if not connection.take(peer, sock):
            sock.close()
            return
        sock.setblocking(False)
        task = self._loop.create_task(self._begin(connection, sock))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _begin(self, connection: Connection, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                sock,
                ssl=self._certificate.context,
                ssl_handshake_timeout=self._deadline_s,
                ssl_shutdown_timeout=CLOSE_S,
            )
        except OSError as error:  # bad handshakes, resets and the deadline are all of this kind
            log.debug("a connection did not become TLS: %s", error)
            connection.give_back()
        except asyncio.CancelledError:
            connection.give_back()
            raise
