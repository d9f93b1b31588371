"""Browsers that are signed in: a random token in a cookie, its hash in the database."""

import time
from typing import Any

import msgspec

from imgpro import ids
from imgpro.errors import Action, NotFound
from imgpro.flows.events import Events
from imgpro.flows.keyring import KeyRing
from imgpro.model import Account, Key
from imgpro.store import queries_accounts
from imgpro.store.db import Database


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A browser that is signed in, for its owner to see. `here`: it is the one that asks. Times are Unix ms."""

    id: str
    browser: str
    key_name: str | None
    created_ms: int
    seen_ms: int
    here: bool


class Sessions:
    """Starts and ends sessions; `KeyRing.by_session` recognises them."""

    def __init__(self, session_s: int, db: Database, ring: KeyRing, events: Events) -> None:
        self.session_s = session_s
        self._db = db
        self._ring = ring
        self._events = events

    async def start(
        self, account: Account, key: Key | None, *, browser: str = "", instead_of: str | None = None
    ) -> str:
        """Sign an account in, by one of its keys or (None) by a link; return the token for the cookie.

        `browser` says in our own words what it looks like. The session whose token this browser held before ends.
        """
        token, now_ms = ids.new_token(), _now_ms()
        hashed, ends_ms = ids.secret_hash(token), now_ms + self.session_s * 1000
        key_seq = None if key is None else key.seq

        def write(conn: Any) -> None:
            if instead_of is not None:
                queries_accounts.delete_session(conn, ids.secret_hash(instead_of))
            queries_accounts.insert_session(conn, hashed, account.seq, key_seq, now_ms, ends_ms, browser)

        await self._db.write(write)
        return token

    async def of(self, account: Account, token: str | None) -> list[Shown]:
        """Return the browsers that an account is signed in with; `token` is that of the browser that asks."""
        async with self._db.reader() as conn:
            found = await queries_accounts.sessions_of_account(conn, account.seq, _now_ms())
        own = None if token is None else ids.secret_hash(token)
        return [
            Shown(
                id=_id(session),
                browser=session.browser,
                key_name=session.key_name,
                created_ms=session.created_ms,
                seen_ms=self._ring.seen_ms(session),
                here=session.hash == own,
            )
            for session in found
        ]

    async def end(self, account: Account, token: str | None) -> None:
        """Sign out this session; with None all of the account's, and end the links that would sign in."""
        hashed = None if token is None else ids.secret_hash(token)

        def write(conn: Any) -> None:
            queries_accounts.delete_sessions(conn, account.seq, hashed)
            if hashed is None:
                queries_accounts.delete_links(conn, "signin", account.seq)

        await self._db.write(write)
        self._events.end(account.seq)

    async def end_one(self, account: Account, session_id: str) -> None:
        """Sign out another browser of the account. Raises NotFound."""
        async with self._db.reader() as conn:
            found = await queries_accounts.sessions_of_account(conn, account.seq, _now_ms())
        hashed = next((session.hash for session in found if _id(session) == session_id), None)
        if hashed is None:
            raise NotFound("This browser is signed out already.", Action("fix", label="Reload the page"))
        await self._db.write(lambda conn: queries_accounts.delete_sessions(conn, account.seq, hashed))
        self._events.end(account.seq)


def _id(session: queries_accounts.Session) -> str:
    """Return a name for a session that is no secret: of the hash of a random token nobody finds the token."""
    return session.hash.hex()[:16]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
