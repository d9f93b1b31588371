"""How much an anonymous caller may upload: sliding windows that survive a restart.

The window is looked at before a body is read, so that nobody sends 20 MB in vain, and decided in the same
transaction that writes the picture, so that parallel uploads cannot take more than is left.
"""

import math
import time
from typing import Final

from imgpro.errors import Action, Forbidden, RateLimited
from imgpro.flows.addresses import is_private_caller
from imgpro.flows.rates import Rate
from imgpro.model import Caller
from imgpro.settings import Anonymous
from imgpro.store import queries
from imgpro.store.db import Database
from imgpro.store.queries import UploadLimit

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000


class Quota:
    """Judges anonymous uploads by one `anonymous` section."""

    def __init__(self, settings: Anonymous, imports_per_hour: int | None, db: Database) -> None:
        self._settings = settings
        self._db = db
        self._attempts = Rate(settings.attempts_per_minute, 60.0)
        self._imports = Rate(imports_per_hour, 3600.0)
        counts = ((settings.uploads_per_hour, HOUR_MS), (settings.uploads_per_day, DAY_MS))
        self.limits = tuple(UploadLimit(count, span_ms) for count, span_ms in counts if count is not None)
        self.storage_bytes = settings.storage_bytes

    async def admit(self, caller: Caller) -> None:
        """Judge a caller before the body is read. Raises Forbidden or RateLimited."""
        if not self._settings.enabled:
            raise Forbidden("This server takes no uploads without an API key.")
        if self._settings.networks == "private" and not is_private_caller(caller.network):
            raise Forbidden("This server takes uploads without an API key from its local network only.")
        wait_s = self._attempts.take(caller.network)
        if wait_s:
            raise _limited("Too many upload requests in a short time.", wait_s)
        async with self._db.reader() as conn:
            await queries.check_upload_limits_early(conn, caller.network, _now_ms(), self.limits)

    def admit_import(self, caller: Caller) -> None:
        """Count an attempt to import, whatever comes of it. Raises RateLimited."""
        wait_s = self._imports.take(caller.network)
        if wait_s:
            raise _limited("Too many imports from this address.", wait_s)

    def expires_ms(self, created_ms: int, ttl_s: int | None) -> int | None:
        """Return when an anonymous picture ends: `ttl` can shorten what the settings keep, never lengthen it."""
        spans = [span for span in (ttl_s, self._settings.retention_s) if span is not None]
        return created_ms + min(spans) * 1000 if spans else None


def _limited(message: str, wait_s: float) -> RateLimited:
    seconds = max(1, math.ceil(wait_s))
    return RateLimited(message, Action("wait", label=f"Try again in {seconds} seconds", seconds=seconds))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
