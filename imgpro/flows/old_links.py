"""Addresses that pictures had on another host: how they are written down, and where they lead."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from imgpro.store import queries_moving
from imgpro.store.db import Database
from imgpro.store.queries_moving import Led

MAX_CHARS: Final = 1_000
_SAFE: Final = "/-._~!$&'()*+,;=:@"


def as_kept(address: str) -> str | None:
    """Return an address in the one form it is kept in, whatever of it was encoded how; None for what is no path here.

    The query stays as it is; a host before the path, and a fragment behind it, are taken off.
    """
    if "://" in address:
        address = "/" + address.partition("://")[2].partition("/")[2]
    path, mark, query = address.partition("#")[0].partition("?")
    kept = quote(unquote_to_bytes(path.encode("utf-8", "surrogateescape")), safe=_SAFE)
    if not kept.startswith("/") or kept.strip("/") == "":
        return None
    whole = f"{kept}{mark}{quote(query, safe=_SAFE + '?%')}" if query else kept
    return whole if len(whole) <= MAX_CHARS else None


class OldLinks:
    """Looks old addresses up. Where no picture has any, that costs nothing."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._any: bool | None = None  # None: not known yet

    def added(self) -> None:
        """Take note that there are some now."""
        self._any = True

    def _note(self, *, there: bool) -> None:
        self._any = there or bool(self._any)  # some may have come meanwhile

    async def find(self, addresses: Sequence[str]) -> Led | None:
        """Return where the first of these addresses leads that leads anywhere."""
        if self._any is False:
            return None
        kept = list(dict.fromkeys(path for address in addresses if (path := as_kept(address)) is not None))
        if not kept:
            return None
        async with self._db.reader() as conn:
            if self._any is None:
                self._note(there=await queries_moving.has_old_links(conn))
            found = {led.path: led for led in await queries_moving.led(conn, kept)}
        return next((found[path] for path in kept if path in found), None)
