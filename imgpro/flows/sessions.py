"""Browsers that are signed in: a random token in a cookie, its hash in the database."""

import time

from imgpro import ids
from imgpro.model import Account, Key
from imgpro.store import queries_accounts
from imgpro.store.db import Database


class Sessions:
    """Starts and ends sessions; `KeyRing.by_session` recognises them."""

    def __init__(self, session_s: int, db: Database) -> None:
        self.session_s = session_s
        self._db = db

    async def start(self, account: Account, key: Key | None) -> str:
        """Sign an account in, by one of its keys; return the token for the cookie."""
        token, now_ms = ids.new_token(), time.time_ns() // 1_000_000
        hashed, ends_ms = ids.secret_hash(token), now_ms + self.session_s * 1000
        key_seq = None if key is None else key.seq
        await self._db.write(
            lambda conn: queries_accounts.insert_session(conn, hashed, account.seq, key_seq, now_ms, ends_ms)
        )
        return token

    async def end(self, account: Account, token: str | None) -> None:
        """Sign out this session; with None all of the account's."""
        hashed = None if token is None else ids.secret_hash(token)
        await self._db.write(lambda conn: queries_accounts.delete_sessions(conn, account.seq, hashed))
