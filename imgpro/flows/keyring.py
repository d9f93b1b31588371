"""Whose key or session is this? Keys that were seen lately are known in memory, exactly as the database has them.

A secret is hashed before anything else and looked up by its hash, so that a wrong key costs what an unknown one
costs, and neither tells how much of it was right.
"""

import hmac
import time
from collections import OrderedDict
from typing import Any, Final

import msgspec

from imgpro.errors import Action, Forbidden, Unauthorized
from imgpro.flows.events import Events
from imgpro.ids import secret_hash
from imgpro.model import Key, Principal
from imgpro.store import queries_accounts
from imgpro.store.db import Database

MAX_KNOWN: Final = 10_000
MAX_SECRET_CHARS: Final = 200
LONGEST_SESSION_MS: Final = 365 * 86_400_000  # however often it is used


class KeyRing:
    """Knows principals by their secrets. Everything that changes accounts or keys calls `forget`."""

    def __init__(self, db: Database, events: Events, session_s: int) -> None:
        self._db = db
        self._events = events
        self._known: OrderedDict[bytes, Principal] = OrderedDict()
        self._writes = 0
        self._uses: dict[int, int] = {}
        self._seen: dict[bytes, int] = {}  # sessions, by the hash of their token
        self.apply(session_s)

    def apply(self, session_s: int) -> None:
        """Let sessions go on for so long after their next use."""
        self._session_ms = session_s * 1000

    async def by_key(self, secret: str) -> Principal:
        """Return who holds this key. Raises Unauthorized, or Forbidden for one that is not usable (yet)."""
        principal, key = await self.holder(secret)
        check_usable(principal)
        self._uses[key.seq] = time.time_ns() // 1_000_000
        return principal

    async def holder(self, secret: str) -> tuple[Principal, Key]:
        """Return whose key this is, and the key, without it counting as used. Raises Unauthorized."""
        wanted = secret_hash(secret[:MAX_SECRET_CHARS])
        principal = self._known.get(wanted) or await self._look_up(wanted)
        if principal is None or principal.key is None or len(secret) > MAX_SECRET_CHARS:
            raise Unauthorized()
        return principal, principal.key

    async def by_session(self, token: str) -> Principal | None:
        """Return who is signed in with this session token; None if it is not valid."""
        hashed, now_ms = secret_hash(token[:MAX_SECRET_CHARS]), time.time_ns() // 1_000_000
        async with self._db.reader() as conn:
            account = await queries_accounts.account_by_session(conn, hashed, now_ms)
        if account is None or account.blocked_ms is not None:
            return None
        self._seen[hashed] = now_ms
        return Principal(account, None)

    def forget(self, account: int) -> None:
        """Drop what is known of an account; call it as soon as a change is committed."""
        self._writes += 1
        self._events.end(account)
        for hashed in [hashed for hashed, found in self._known.items() if found.account.seq == account]:
            del self._known[hashed]

    async def note_uses(self) -> None:
        """Write down when keys and sessions were used last; a session that is used goes on."""
        (uses, self._uses), (seen, self._seen) = (self._uses, {}), (self._seen, {})

        def write(conn: Any) -> None:
            queries_accounts.note_key_uses(conn, uses.items())
            queries_accounts.note_session_uses(conn, seen.items(), self._session_ms, LONGEST_SESSION_MS)

        if uses or seen:
            await self._db.write(write)

    def with_last_use(self, key: Key) -> Key:
        """Return a key with a use that is not written down yet."""
        used_ms = self._uses.get(key.seq)
        return key if used_ms is None else msgspec.structs.replace(key, last_used_ms=used_ms)

    def seen_ms(self, session: queries_accounts.Session) -> int:
        """Return when a session was used last, which may not be written down yet."""
        return self._seen.get(session.hash, session.seen_ms)

    async def _look_up(self, wanted: bytes) -> Principal | None:
        writes = self._writes
        async with self._db.reader() as conn:
            found = await queries_accounts.principal_by_key_hash(conn, wanted)
        if found is None or not hmac.compare_digest(found[1], wanted):
            return None
        principal = found[0]
        if writes == self._writes:
            self._known[wanted] = principal
            while len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        return principal


def standing(principal: Principal) -> tuple[object, ...]:
    """Return what decides how a principal's pictures are kept and counted."""
    account, key = principal.account, principal.key
    confirmed_ms = key.confirmed_ms if key is not None else None
    return account.role, account.plan, account.verified_ms, confirmed_ms


def still_usable(conn: Any, principal: Principal) -> Principal:
    """Return a principal as it stands in this transaction, whatever it was when its request began.

    Raises Unauthorized for a key that was revoked meanwhile, and what `check_usable` raises.
    """
    now = queries_accounts.principal_now(conn, principal)
    if now is None:
        raise Unauthorized("The API key was revoked meanwhile.")
    check_usable(now)
    return now


def check_usable(principal: Principal) -> None:
    """Refuse a blocked account, and a key that waits for its owner. Raises Forbidden."""
    account, key = principal.account, principal.key
    if account.verified and key is not None and key.confirmed_ms is None:
        label = "Have the owner of the address open the link about this key"
        raise Forbidden("This key waits for its owner's confirmation.", Action("verify", "/dashboard", label))
    if account.blocked_ms is not None:
        raise Forbidden(
            "This account was blocked by the operator of this server.",
            Action("redirect", url="/dashboard", label="Ask the operator of this server"),
        )
