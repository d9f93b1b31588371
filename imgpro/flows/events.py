"""What happens to an account's pictures, told to whoever is listening at that moment.

Nothing is kept: a listener that was away, or slower than what happened, is told to read everything again (`reset`).
Everything that changes what an account may see ends its listeners; they come back and are judged anew.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from imgpro.errors import Action, RateLimited
from imgpro.model import Image, Principal

MAX_WAITING: Final = 200  # events of one listener
MAX_PER_ACCOUNT: Final = 50
MAX_UNVERIFIED: Final = 5  # of an account that anybody can make
MAX_IN_ALL: Final = 1_000

Kind = Literal["uploaded", "changed", "deleted", "reset"]


class Event(msgspec.Struct, frozen=True):
    """One thing that happened. `image` as it is now; None where it is gone, or for `reset`."""

    kind: Kind
    image_id: str = ""
    image: Image | None = None


class Listener:
    """One connection that is told. Made by `Events.listen`."""

    def __init__(self, only_key: int | None) -> None:
        self._only_key = only_key
        self._waiting: deque[Event] = deque()
        self._woken = asyncio.Event()
        self.ended = False

    async def next(self, patience_s: float) -> Event | None:
        """Return the next event; None if there was none for so long, or if the listener was ended."""
        if not self._waiting and not self.ended:
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await self._woken.wait()
        return self._waiting.popleft() if self._waiting and not self.ended else None

    def tell(self, event: Event, key: int | None) -> None:
        """Take an event of a picture that came with `key`."""
        if self._only_key is not None and key != self._only_key:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.clear()
            event = Event("reset")
        self._waiting.append(event)
        self._woken.set()

    def end(self) -> None:
        """Tell nothing any more."""
        self.ended = True
        self._woken.set()


class Events:
    """Hands events from what changes pictures to those who listen."""

    def __init__(self) -> None:
        self._listeners: dict[int, set[Listener]] = {}
        self._count = 0
        self._closed = False

    @contextlib.contextmanager
    def listen(self, principal: Principal) -> Iterator[Listener]:
        """Listen to what happens to the pictures that this principal may see. Raises RateLimited."""
        account = principal.account.seq
        known = self._listeners.setdefault(account, set())
        most = MAX_PER_ACCOUNT if principal.account.verified else MAX_UNVERIFIED
        if len(known) >= most or self._count >= MAX_IN_ALL:
            wait = Action("wait", label="Close other tabs, or try again in 30 seconds", seconds=30)
            raise RateLimited("Too many are listening already.", wait)
        listener = Listener(principal.own_key_only)
        listener.ended = self._closed
        known.add(listener)
        self._count += 1
        try:
            yield listener
        finally:
            self._count -= 1
            known.discard(listener)
            if not known and self._listeners.get(account) is known:
                del self._listeners[account]

    def uploaded(self, image: Image) -> None:
        """Tell of a picture that is stored."""
        self._tell(image.account, image.key, Event("uploaded", image.id, image))

    def changed(self, image: Image) -> None:
        """Tell of a picture that is not as it was."""
        self._tell(image.account, image.key, Event("changed", image.id, image))

    def deleted(self, account: int | None, key: int | None, image_id: str) -> None:
        """Tell of a picture that is gone."""
        self._tell(account, key, Event("deleted", image_id))

    def end(self, account: int) -> None:
        """End the listeners of an account."""
        for listener in self._listeners.get(account, ()):
            listener.end()

    def close(self) -> None:
        """End all, also those that come from now on: the server stops."""
        self._closed = True
        for account in self._listeners:
            self.end(account)

    def _tell(self, account: int | None, key: int | None, event: Event) -> None:
        if account is not None:
            for listener in self._listeners.get(account, ()):
                listener.tell(event, key)
