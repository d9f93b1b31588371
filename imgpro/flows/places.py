"""How many uploads are received at once, in all and from one network; more wait their turn for a while.

Without the second bound one caller with slow connections could hold every place. Waiting costs a connection and
nothing else: the body is not asked for before there is a place.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

from imgpro.errors import Busy


class Places:
    """`total` places, at most `per_network` of them for one network; `patience_s` is the longest wait."""

    def __init__(self, total: int, per_network: int, patience_s: float) -> None:
        self._taken: Counter[str] = Counter()
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        self.allow(total, per_network, patience_s)

    def allow(self, total: int, per_network: int, patience_s: float) -> None:
        """Take other bounds; whoever holds a place keeps it."""
        self._total = total
        self._per_network = per_network
        self._patience_s = patience_s
        self._hand_out()

    @property
    def taken(self) -> int:
        """Places in use now."""
        return self._taken.total()

    @contextlib.asynccontextmanager
    async def hold(self, network: str) -> AsyncIterator[None]:
        """Hold a place for the length of an `async with`. Raises Busy when none comes free in time."""
        if self._has_room(network) and not any(waiting == network for waiting, _ in self._waiting):
            self._taken[network] += 1
        else:
            await self._wait(network)
        try:
            yield
        finally:
            self._leave(network)

    def _has_room(self, network: str) -> bool:
        return self._taken.total() < self._total and self._taken[network] < self._per_network

    async def _wait(self, network: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (network, turn)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(self._patience_s):
                await turn
        except BaseException as error:
            if entry in self._waiting:
                self._waiting.remove(entry)
            elif turn.done() and not turn.cancelled():
                self._leave(network)  # the place came in the very moment of giving up
            if isinstance(error, TimeoutError):
                raise Busy("Too many uploads are under way.") from None
            raise

    def _leave(self, network: str) -> None:
        self._taken[network] -= 1
        if not self._taken[network]:
            del self._taken[network]
        self._hand_out()

    def _hand_out(self) -> None:
        for entry in tuple(self._waiting):
            if self._has_room(entry[0]):
                self._waiting.remove(entry)
                if not entry[1].done():
                    self._taken[entry[0]] += 1
                    entry[1].set_result(None)
