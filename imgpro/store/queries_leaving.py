"""SQL of deleting an account: first it is nobody's any more, then its pictures go, then its row. See `queries`."""

import sqlite3
from typing import Any

import aiosqlite
import msgspec

from imgpro.model import Account
from imgpro.store import queries_accounts


class Belongings(msgspec.Struct, frozen=True):
    """What would go with an account. `stored_bytes` counts a picture's bytes also where somebody else has the same."""

    images: int
    stored_bytes: int
    keys: int
    sessions: int
    rules: int  # of retention, for this account alone


async def belongings(conn: aiosqlite.Connection, account: int, now_ms: int) -> Belongings | None:
    """Return what goes with an account; None if there is no such account."""
    rows = await conn.execute_fetchall(
        "SELECT a.images, a.stored_bytes, "
        "(SELECT count(*) FROM keys WHERE account = a.seq AND revoked_ms IS NULL), "
        "(SELECT count(*) FROM sessions WHERE account = a.seq AND expires_ms > ?), "
        "(SELECT count(*) FROM retention_rules WHERE account = a.seq) FROM accounts a WHERE a.seq = ?",
        (now_ms, account),
    )
    return next((Belongings(*tuple(row)) for row in rows), None)


def another_operator(conn: sqlite3.Connection, account: int) -> bool:
    """Tell whether there is an operator besides this account."""
    found = conn.execute(
        "SELECT 1 FROM accounts WHERE role = 'operator' AND seq <> ? AND blocked_ms IS NULL LIMIT 1", (account,)
    ).fetchone()
    return found is not None


def take_leave(conn: sqlite3.Connection, account: Account, now_ms: int) -> None:
    """Begin to delete an account: nothing of it works from now on, and its address is free for a new one.

    What is left are its pictures, and keys without name or network, because pictures name the key that brought them.
    """
    keys = conn.execute("SELECT seq FROM keys WHERE account = ?", (account.seq,)).fetchall()
    callers = [(f"a{account.seq}",), *((f"k{seq}",) for (seq,) in keys)]
    conn.executemany("DELETE FROM replays WHERE caller = ?", callers)
    conn.execute(
        "UPDATE keys SET name = '', network = '', namespace = NULL, last_used_ms = NULL, "
        "revoked_ms = coalesce(revoked_ms, ?) WHERE account = ?",
        (now_ms, account.seq),
    )
    for table in ("sessions", "links", "upgrade_requests", "mail", "monthly_uploads", "retention_rules"):
        conn.execute(f"DELETE FROM {table} WHERE account = ?", (account.seq,))
    conn.execute("DELETE FROM links WHERE email = ?", (account.email,))
    # Letters to operators name who asks for a plan.
    conn.execute(
        "DELETE FROM mail WHERE recipient = ?1 OR instr(subject, ?1) OR instr(body_text, ?1)", (account.email,)
    )
    conn.execute(
        "UPDATE accounts SET leaving_ms = ?1, blocked_ms = coalesce(blocked_ms, ?1), role = 'member', "
        "email = id || '@deleted.invalid', plan_changes = plan_changes + 1 WHERE seq = ?2",
        (now_ms, account.seq),
    )


def finish_leave(conn: sqlite3.Connection, account: int) -> bool:
    """Delete the row of an account that is leaving, and all that hangs on it; False while it has pictures."""
    if conn.execute("SELECT 1 FROM images WHERE account = ? LIMIT 1", (account,)).fetchone() is not None:
        return False
    for table in ("tag_totals", "namespace_totals"):
        conn.execute(f"DELETE FROM {table} WHERE account = ?", (account,))
    conn.execute("DELETE FROM accounts WHERE seq = ? AND leaving_ms IS NOT NULL", (account,))
    return True


async def leaving(conn: aiosqlite.Connection) -> list[Account]:
    """Return the accounts whose deletion has begun and not ended."""
    rows: Any = await conn.execute_fetchall(
        f"SELECT {queries_accounts.ACCOUNT_COLUMNS} FROM accounts a WHERE a.leaving_ms IS NOT NULL ORDER BY a.seq"
    )
    return [queries_accounts.account_of(tuple(row)) for row in rows]
