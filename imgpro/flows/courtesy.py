"""Work that nobody waits for lets those go first who are being served.

While somebody is, it is done one piece at a time, with a rest after each of four times what the piece took; else
several at once and at full speed. Knows neither the work nor the visitors.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final

VISIT_S: Final = 1.0  # so long after the last answer a visit is thought to go on
REST: Final = 4.0  # times what a piece took
LONGEST_REST_S: Final = 2.0


class Courtesy:
    """One for the appliance. Whoever answers a visitor adds one to `served`."""

    def __init__(self) -> None:
        self.served = 0
        self._seen = 0
        self._visit_until_s = 0.0
        self._rest_until_s = 0.0
        self._alone = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """Hold a piece of work until it may be done, and tell whether somebody is being served meanwhile.

        Waiting for others, as for a network, does not belong in it.
        """
        if not self._is_visited():
            yield False
            return
        async with self._alone:
            await asyncio.sleep(max(0.0, self._rest_until_s - time.monotonic()))
            began_s = time.monotonic()
            try:
                yield True
            finally:
                ended_s = time.monotonic()
                self._rest_until_s = ended_s + min(REST * (ended_s - began_s), LONGEST_REST_S)

    def _is_visited(self) -> bool:
        now_s = time.monotonic()
        if self.served != self._seen:
            self._seen = self.served
            self._visit_until_s = now_s + VISIT_S
        return now_s < self._visit_until_s
