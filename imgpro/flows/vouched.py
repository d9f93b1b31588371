"""Accounts of people whom a proxy vouches for. Knows no headers."""

import time
from typing import Any

from imgpro import ids
from imgpro.flows.keyring import KeyRing
from imgpro.model import Account
from imgpro.store import queries_accounts
from imgpro.store.db import Database


class Vouched:
    """Finds and makes them. One for the appliance."""

    def __init__(self, db: Database, ring: KeyRing) -> None:
        self._db = db
        self._ring = ring

    async def account(self, email: str, *, create: bool) -> Account | None:
        """Return the account of an address that is its owner's by somebody's word; None if there is none.

        Nobody needs to confirm it any more. What strangers asked for in its name before stays with them: their keys
        stop working, until the owner takes them over.
        """
        async with self._db.reader() as conn:
            account = await queries_accounts.account_at(conn, email)
        if account is not None and (account.verified or account.blocked_ms is not None):
            return account
        if account is None and not create:
            return None
        now_ms = time.time_ns() // 1_000_000

        def write(conn: Any) -> Account:
            found = queries_accounts.account_by_email(conn, email)
            if found is None:
                return queries_accounts.insert_account(
                    conn, ids.new_account_id(), email, "member", now_ms, verified=True
                )
            queries_accounts.set_verified(conn, found.seq, now_ms)
            return queries_accounts.account_by_seq(conn, found.seq) or found

        account = await self._db.write(write)
        self._ring.forget(account.seq)
        return account

    async def known(self, account_id: str) -> Account | None:
        """Return an account that was found before, None if it is blocked meanwhile."""
        async with self._db.reader() as conn:
            account = await queries_accounts.account_by_id(conn, account_id)
        return account if account is not None and account.verified and account.blocked_ms is None else None
