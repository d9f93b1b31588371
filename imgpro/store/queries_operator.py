"""SQL of what the operator looks at. Nothing here walks the pictures: sums are kept by triggers. See `queries`."""

from typing import Final

import aiosqlite
import msgspec

from imgpro.model import Account, Image
from imgpro.store.queries import IMAGE_COLUMNS, image_of
from imgpro.store.queries_accounts import ACCOUNT_COLUMNS, account_of

DAY_MS: Final = 86_400_000


class Upload(msgspec.Struct, frozen=True):
    """A picture, and whose it is: an address, or the network it came from without an account."""

    image: Image
    email: str | None
    network: str | None


class Growth(msgspec.Struct, frozen=True):
    """What one day (UTC, counted from 1970) did to the originals."""

    day: int
    added: int
    added_bytes: int
    removed_bytes: int


class MailState(msgspec.Struct, frozen=True):
    """Letters that wait, how many of them failed before, and why the last one did."""

    waiting: int
    failed: int
    last_error: str | None


async def accounts_found(conn: aiosqlite.Connection, text: str, before_seq: int, limit: int) -> list[Account]:
    """Return accounts with `text` in their address, the youngest first, from before the one numbered `before_seq`."""
    rows = await conn.execute_fetchall(
        f"SELECT {ACCOUNT_COLUMNS} FROM accounts a WHERE a.seq < ? AND (? = '' OR instr(a.email, ?) > 0) "
        "ORDER BY a.seq DESC LIMIT ?",
        (before_seq, text, text, limit),
    )
    return [account_of(tuple(row)) for row in rows]


async def accounts_to_verify(conn: aiosqlite.Connection, limit: int) -> list[Account]:
    """Return accounts with keys that nobody has vouched for, the youngest first."""
    rows = await conn.execute_fetchall(
        f"SELECT {ACCOUNT_COLUMNS} FROM accounts a INDEXED BY accounts_unverified "
        "WHERE a.verified_ms IS NULL AND a.blocked_ms IS NULL AND a.seq > 0 AND EXISTS "
        "(SELECT 1 FROM keys k WHERE k.account = a.seq AND k.revoked_ms IS NULL) ORDER BY a.seq DESC LIMIT ?",
        (limit,),
    )
    return [account_of(tuple(row)) for row in rows]


async def accounts_count(conn: aiosqlite.Connection) -> int:
    """Return how many accounts there are."""
    rows = list(await conn.execute_fetchall("SELECT count(*) FROM accounts"))
    return int(rows[0][0])


async def latest_uploads(conn: aiosqlite.Connection, now_ms: int, limit: int) -> list[Upload]:
    """Return the pictures that came last, whoever they belong to."""
    rows = await conn.execute_fetchall(
        f"SELECT {IMAGE_COLUMNS}, a.email, i.network FROM images i JOIN blobs b ON b.seq = i.blob "
        "LEFT JOIN accounts a ON a.seq = i.account "
        "WHERE i.seq > 0 AND (i.expires_ms IS NULL OR i.expires_ms > ?) ORDER BY i.seq DESC LIMIT ?",
        (now_ms, limit),
    )
    return [Upload(image_of(tuple(row)[:-2]), row[-2], row[-1]) for row in rows]


async def growth(conn: aiosqlite.Connection, since_day: int) -> list[Growth]:
    """Return the days since `since_day` on which something came or went."""
    rows = await conn.execute_fetchall(
        "SELECT day, added, added_bytes, removed_bytes FROM daily_growth WHERE day >= ? ORDER BY day", (since_day,)
    )
    return [Growth(*tuple(row)) for row in rows]


async def first_day(conn: aiosqlite.Connection) -> int | None:
    """Return the first day on which something came."""
    rows = list(await conn.execute_fetchall("SELECT min(day) FROM daily_growth"))
    found: int | None = rows[0][0]
    return found


async def mail_state(conn: aiosqlite.Connection, now_ms: int) -> MailState:
    """Return how the mail queue stands."""
    rows = list(
        await conn.execute_fetchall("SELECT count(*), count(last_error) FROM mail WHERE expires_ms > ?", (now_ms,))
    )
    errors = await conn.execute_fetchall(
        "SELECT last_error FROM mail WHERE last_error IS NOT NULL AND expires_ms > ? ORDER BY seq DESC LIMIT 1",
        (now_ms,),
    )
    return MailState(rows[0][0], rows[0][1], next((row[0] for row in errors), None))
