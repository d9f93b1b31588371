"""What a service manager is told: ready, reloading, stopping, alive (sd_notify(3)). Without one, nothing happens."""

import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Mapping


class Supervisor:
    """Talks to whoever named a socket in `NOTIFY_SOCKET`. Its methods raise nothing."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        env = os.environ if environ is None else environ
        self._address = env.get("NOTIFY_SOCKET", "")

    def ready(self) -> None:
        """Say that requests are answered."""
        self.tell("READY=1")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self.tell("STOPPING=1")

    async def watch(self, ping: Callable[[], Awaitable[None]]) -> None:
        """Say again and again that the server lives, each time `ping` has come back."""

    def tell(self, *lines: str) -> None:
        """Send lines of `NAME=value`."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto("\n".join(lines).encode(), address)
