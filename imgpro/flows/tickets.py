"""Upload tickets: a link that takes one file for an account, once, without a key.

For agents that can run a command but should not be handed a key: the ticket is made with what is to be said about the
picture, and the transaction that stores the picture uses it up.
"""

import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from imgpro import ids
from imgpro.errors import NotFound
from imgpro.flows.keyring import check_usable
from imgpro.flows.quota import check_ability
from imgpro.model import Principal
from imgpro.store import queries_accounts
from imgpro.store.db import Database
from imgpro.store.queries_accounts import Link

TICKET_S: Final = 900


class Ticket(msgspec.Struct, frozen=True):
    """A ticket that was shown: whose picture it will be, the ticket's hash, and the fields it was made with."""

    principal: Principal
    hash: bytes
    fields: dict[str, str]


class Tickets:
    """Makes tickets and recognises them."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def make(self, principal: Principal, fields: Mapping[str, str]) -> tuple[str, int]:
        """Return a fresh ticket and when it ends (Unix seconds). `fields` are those of an upload, checked already."""
        check_ability(principal, "upload")
        token, now_ms = ids.new_token(), time.time_ns() // 1_000_000
        link = Link(
            hash=ids.secret_hash(token),
            purpose="ticket",
            account=principal.account.seq,
            key=principal.key.seq if principal.key is not None else None,
            details=msgspec.json.encode(dict(fields)).decode(),
            expires_ms=now_ms + TICKET_S * 1000,
        )
        await self._db.write(lambda conn: queries_accounts.insert_link(conn, link, now_ms))
        return token, link.expires_ms // 1000

    async def look(self, token: str) -> Ticket:
        """Return what a ticket is good for. Raises NotFound when it was used or has ended, Forbidden for a block."""
        hashed, now_ms = ids.secret_hash(token), time.time_ns() // 1_000_000

        def read(conn: Any) -> Ticket | None:
            link = queries_accounts.link_by_hash(conn, hashed, "ticket", now_ms)
            account = queries_accounts.account_by_seq(conn, link.account) if link and link.account else None
            if link is None or account is None:
                return None
            keys = queries_accounts.keys_of_account(conn, account.seq)
            key = next((key for key in keys if key.seq == link.key), None)
            if link.key is not None and key is None:
                return None
            fields = msgspec.json.decode(link.details or "{}", type=dict[str, str])
            return Ticket(Principal(account, key), hashed, fields)

        async with self._db.reader() as reader:
            works = await queries_accounts.link_works(reader, hashed, "ticket", now_ms)
        found = await self._db.write(read) if works else None
        if found is None:
            raise NotFound("This upload ticket was used already or has ended.")
        check_usable(found.principal)
        return found
