"""SQL of accounts, keys, links, sessions and requests to upgrade. The rules of `queries` hold here too."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

import aiosqlite
import msgspec

from imgpro.model import Account, Key, PlanName, Principal, Role

LinkPurpose = Literal["verify", "setup", "invite", "ticket", "signin"]

MAX_SESSIONS: Final = 50  # of an account
_FUTURE_MS: Final = 7 * 86_400_000  # a clock that is set right by less than this signs nobody out
ACCOUNT_COLUMNS: Final = (
    "a.seq, a.id, a.email, a.role, a.plan, a.plan_changes, a.created_ms, a.verified_ms, a.blocked_ms, a.images, "
    "a.stored_bytes, a.leaving_ms"
)
_KEY: Final = (
    "k.seq, k.id, k.account, k.name, k.abilities, k.namespace, k.network, k.created_ms, k.confirmed_ms, k.last_used_ms"
)
_ACCOUNT_COLUMNS: Final = 12


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """Something that works once, by its `hash`; `details` is JSON of whoever made it."""

    hash: bytes
    purpose: LinkPurpose
    expires_ms: int
    account: int | None = None
    key: int | None = None
    email: str | None = None
    details: str | None = None


class UnsettledKey(msgspec.Struct, frozen=True):
    """A key of which nobody has said that it is theirs, and how many pictures it brought."""

    key: Key
    revoked: bool
    images: int


class Session(msgspec.Struct, frozen=True):
    """A browser that is signed in, by the `hash` of its token. Times are Unix milliseconds."""

    hash: bytes
    created_ms: int
    seen_ms: int
    expires_ms: int
    browser: str
    key_name: str | None  # of the key that it was signed in with; None: by a link


class UpgradeRequest(msgspec.Struct, frozen=True):
    """An account that asks for a plan, since `created_ms`."""

    account: Account
    plan: str
    created_ms: int


# Accounts


def insert_account(
    conn: sqlite3.Connection,
    account_id: str,
    email: str,
    role: Role,
    now_ms: int,
    *,
    plan: PlanName = "free",
    verified: bool = False,
) -> Account:
    """Create an account. The address must be new."""
    conn.execute(
        "INSERT INTO accounts (id, email, role, plan, created_ms, verified_ms) VALUES (?, ?, ?, ?, ?, ?)",
        (account_id, email, role, plan, now_ms, now_ms if verified else None),
    )
    found = account_by_email(conn, email)
    assert found is not None
    return found


def account_by_email(conn: sqlite3.Connection, email: str) -> Account | None:
    """Return the account of an address, which must be in its canonical form."""
    row = conn.execute(f"SELECT {ACCOUNT_COLUMNS} FROM accounts a WHERE a.email = ?", (email,)).fetchone()
    return account_of(row) if row else None


async def account_at(conn: aiosqlite.Connection, email: str) -> Account | None:
    """Return the account of an address in its canonical form, read by a reader."""
    rows = await conn.execute_fetchall(f"SELECT {ACCOUNT_COLUMNS} FROM accounts a WHERE a.email = ?", (email,))
    return next((account_of(tuple(row)) for row in rows), None)


def account_by_seq(conn: sqlite3.Connection, seq: int) -> Account | None:
    """Return an account."""
    row = conn.execute(f"SELECT {ACCOUNT_COLUMNS} FROM accounts a WHERE a.seq = ?", (seq,)).fetchone()
    return account_of(row) if row else None


async def account_facts(conn: aiosqlite.Connection, seq: int) -> Account | None:
    """Return an account, read by a reader."""
    rows = await conn.execute_fetchall(f"SELECT {ACCOUNT_COLUMNS} FROM accounts a WHERE a.seq = ?", (seq,))
    return next((account_of(tuple(row)) for row in rows), None)


async def account_by_id(conn: aiosqlite.Connection, account_id: str) -> Account | None:
    """Return the account with this public id, read by a reader."""
    rows = await conn.execute_fetchall(f"SELECT {ACCOUNT_COLUMNS} FROM accounts a WHERE a.id = ?", (account_id,))
    return next((account_of(tuple(row)) for row in rows), None)


async def operators(conn: aiosqlite.Connection) -> list[Account]:
    """Return the operators' accounts."""
    rows = await conn.execute_fetchall(
        f"SELECT {ACCOUNT_COLUMNS} FROM accounts a WHERE a.role = 'operator' ORDER BY a.seq"
    )
    return [account_of(tuple(row)) for row in rows]


async def accounts_page(conn: aiosqlite.Connection, after_seq: int, limit: int) -> list[Account]:
    """Return accounts in the order they were made, after the one numbered `after_seq`."""
    rows = await conn.execute_fetchall(
        f"SELECT {ACCOUNT_COLUMNS} FROM accounts a WHERE a.seq > ? ORDER BY a.seq LIMIT ?", (after_seq, limit)
    )
    return [account_of(tuple(row)) for row in rows]


_OPERATOR: Final = "SELECT 1 FROM accounts WHERE role = 'operator' LIMIT 1"


def operator_exists(conn: sqlite3.Connection) -> bool:
    """Tell, within a transaction, whether the set-up link was used."""
    return conn.execute(_OPERATOR).fetchone() is not None


async def has_operator(conn: aiosqlite.Connection) -> bool:
    """Tell whether the set-up link was used."""
    return bool(await conn.execute_fetchall(_OPERATOR))


def set_verified(conn: sqlite3.Connection, seq: int, now_ms: int) -> bool:
    """Note that the address is its owner's; tell whether that is new."""
    changed = conn.execute(
        "UPDATE accounts SET verified_ms = ? WHERE seq = ? AND verified_ms IS NULL", (now_ms, seq)
    ).rowcount
    return changed > 0


def make_permanent(conn: sqlite3.Connection, account: int, keys: Sequence[int]) -> int:
    """Let the pictures that these keys brought end only when their uploader wanted it; return how many that changes."""
    marks = ", ".join("?" * len(keys))
    return conn.execute(
        f"UPDATE images SET expires_ms = wanted_end_ms "
        f"WHERE account = ? AND key IN ({marks}) AND expires_ms IS NOT wanted_end_ms",
        (account, *keys),
    ).rowcount


def set_operator(conn: sqlite3.Connection, seq: int) -> Account:
    """Make an account the operator's, and return it."""
    conn.execute("UPDATE accounts SET role = 'operator', plan = 'max', blocked_ms = NULL WHERE seq = ?", (seq,))
    found = account_by_seq(conn, seq)
    assert found is not None
    return found


def set_blocked(conn: sqlite3.Connection, seq: int, blocked_ms: int | None) -> None:
    """Block an account, or with None let it in again."""
    conn.execute("UPDATE accounts SET blocked_ms = ? WHERE seq = ?", (blocked_ms, seq))


def set_plan(conn: sqlite3.Connection, seq: int, plan: PlanName) -> None:
    """Put an account on a plan; upgrade links that were made before have no effect any more."""
    conn.execute("UPDATE accounts SET plan = ?, plan_changes = plan_changes + 1 WHERE seq = ?", (plan, seq))
    conn.execute("DELETE FROM upgrade_requests WHERE account = ?", (seq,))


async def uploads_in_month(conn: aiosqlite.Connection, account: int, month: str) -> int:
    """Return how many pictures an account stored in a month, e.g. `2026-11`, deleted ones counted."""
    rows = list(
        await conn.execute_fetchall(
            "SELECT coalesce(sum(uploads), 0) FROM monthly_uploads WHERE account = ? AND month = ?", (account, month)
        )
    )
    return int(rows[0][0])


async def image_ids_of_account(conn: aiosqlite.Connection, account: int, limit: int) -> list[str]:
    """Return ids of some of an account's pictures."""
    rows = await conn.execute_fetchall(
        "SELECT id FROM images WHERE account = ? ORDER BY created_ms LIMIT ?", (account, limit)
    )
    return [row[0] for row in rows]


# Keys


def insert_key(
    conn: sqlite3.Connection,
    key_id: str,
    account: int,
    secret_hash: bytes,
    name: str,
    abilities: Iterable[str],
    namespace: str | None,
    network: str,
    now_ms: int,
    *,
    confirmed: bool,
) -> Key:
    """Add a key to an account."""
    conn.execute(
        "INSERT INTO keys (id, account, hash, name, abilities, namespace, network, created_ms, confirmed_ms) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            key_id,
            account,
            secret_hash,
            name,
            ",".join(abilities),
            namespace,
            network,
            now_ms,
            now_ms if confirmed else None,
        ),
    )
    row = conn.execute(f"SELECT {_KEY} FROM keys k WHERE k.id = ?", (key_id,)).fetchone()
    return _key(row)


async def principal_by_key_hash(conn: aiosqlite.Connection, secret_hash: bytes) -> tuple[Principal, bytes] | None:
    """Return whose key this is, and the hash as it is stored; None for revoked and unknown ones alike."""
    rows = await conn.execute_fetchall(
        f"SELECT {ACCOUNT_COLUMNS}, {_KEY}, k.hash FROM keys k JOIN accounts a ON a.seq = k.account "
        "WHERE k.hash = ? AND k.revoked_ms IS NULL",
        (secret_hash,),
    )
    for row in map(tuple, rows):
        return Principal(account_of(row[:_ACCOUNT_COLUMNS]), _key(row[_ACCOUNT_COLUMNS:-1])), row[-1]
    return None


def keys_of_account(conn: sqlite3.Connection, account: int) -> list[Key]:
    """Return an account's keys that are not revoked, oldest first."""
    rows = conn.execute(
        f"SELECT {_KEY} FROM keys k WHERE k.account = ? AND k.revoked_ms IS NULL ORDER BY k.seq", (account,)
    )
    return [_key(row) for row in rows]


async def keys_listed(conn: aiosqlite.Connection, account: int) -> list[Key]:
    """Return the same, read by a reader."""
    rows = await conn.execute_fetchall(
        f"SELECT {_KEY} FROM keys k WHERE k.account = ? AND k.revoked_ms IS NULL ORDER BY k.seq", (account,)
    )
    return [_key(tuple(row)) for row in rows]


def principal_now(conn: sqlite3.Connection, principal: Principal) -> Principal | None:
    """Return a principal as it stands in this transaction; None if its key is revoked or gone."""
    account = account_by_seq(conn, principal.account.seq)
    if account is None or principal.key is None:
        return None if account is None else Principal(account, None)
    row = conn.execute(
        f"SELECT {_KEY} FROM keys k WHERE k.seq = ? AND k.revoked_ms IS NULL", (principal.key.seq,)
    ).fetchone()
    return Principal(account, _key(row)) if row else None


def unsettled_keys(conn: sqlite3.Connection, account: int) -> list[UnsettledKey]:
    """Return the keys that nobody confirmed, with the pictures each brought; revoked ones only if they brought some."""
    rows = conn.execute(
        f"SELECT {_KEY}, k.revoked_ms IS NOT NULL, "
        "(SELECT count(*) FROM images i INDEXED BY images_by_key WHERE i.key = k.seq) "
        "FROM keys k WHERE k.account = ? AND k.confirmed_ms IS NULL ORDER BY k.seq LIMIT 1000",
        (account,),
    ).fetchall()
    found = [UnsettledKey(_key(row[:-2]), bool(row[-2]), row[-1]) for row in rows]
    return [each for each in found if each.images or not each.revoked]


def forget_uploads(conn: sqlite3.Connection, account: int, key: int) -> None:
    """Take what a key uploaded out of what its account has used of the months' uploads."""
    conn.execute("DELETE FROM monthly_uploads WHERE account = ? AND key = ?", (account, key))


def confirm_keys(conn: sqlite3.Connection, account: int, keys: Iterable[int], now_ms: int) -> None:
    """Note that the owner of the account knows these keys."""
    conn.executemany(
        "UPDATE keys SET confirmed_ms = ? WHERE account = ? AND seq = ? AND confirmed_ms IS NULL",
        [(now_ms, account, key) for key in keys],
    )


def revoke_keys(conn: sqlite3.Connection, account: int, keys: Iterable[int], now_ms: int) -> int:
    """Make keys of an account useless for ever; return how many were not so before."""
    changed = 0
    for key in keys:
        changed += conn.execute(
            "UPDATE keys SET revoked_ms = ? WHERE account = ? AND seq = ? AND revoked_ms IS NULL",
            (now_ms, account, key),
        ).rowcount
        conn.execute("DELETE FROM links WHERE key = ?", (key,))
        conn.execute("DELETE FROM sessions WHERE key = ?", (key,))
    return changed


def revoke_pending(conn: sqlite3.Connection, before_ms: int, now_ms: int) -> int:
    """Revoke keys of verified accounts that nobody confirmed in time; return how many."""
    return conn.execute(
        "UPDATE keys SET revoked_ms = ? WHERE confirmed_ms IS NULL AND revoked_ms IS NULL AND created_ms <= ? "
        "AND account IN (SELECT seq FROM accounts WHERE verified_ms IS NOT NULL)",
        (now_ms, before_ms),
    ).rowcount


def prune_keys(conn: sqlite3.Connection) -> int:
    """Forget revoked keys that no picture names; return how many."""
    return conn.execute(
        "DELETE FROM keys WHERE revoked_ms IS NOT NULL "
        "AND NOT EXISTS (SELECT 1 FROM images i INDEXED BY images_by_key WHERE i.key = keys.seq)"
    ).rowcount


def note_key_uses(conn: sqlite3.Connection, uses: Iterable[tuple[int, int]]) -> None:
    """Write down when keys (seq) were used last (Unix ms)."""
    conn.executemany("UPDATE keys SET last_used_ms = ? WHERE seq = ?", [(at_ms, key) for key, at_ms in uses])


# Links that work once


def insert_link(conn: sqlite3.Connection, link: Link, now_ms: int) -> None:
    """Keep a link until it is used or ends."""
    conn.execute(
        "INSERT INTO links (hash, purpose, account, key, email, details, created_ms, expires_ms) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (link.hash, link.purpose, link.account, link.key, link.email, link.details, now_ms, link.expires_ms),
    )


def link_by_hash(conn: sqlite3.Connection, token_hash: bytes, purpose: LinkPurpose, now_ms: int) -> Link | None:
    """Return a link that still works."""
    row = conn.execute(
        "SELECT hash, purpose, expires_ms, account, key, email, details FROM links "
        "WHERE hash = ? AND purpose = ? AND expires_ms > ?",
        (token_hash, purpose, now_ms),
    ).fetchone()
    if row is None:
        return None
    names = ("hash", "purpose", "expires_ms", "account", "key", "email", "details")
    return Link(**dict(zip(names, row, strict=True)))


async def link_works(conn: aiosqlite.Connection, token_hash: bytes, purpose: LinkPurpose, now_ms: int) -> bool:
    """Tell whether a link still works, read by a reader: guesses of strangers shall not reach the writer."""
    rows = await conn.execute_fetchall(
        "SELECT 1 FROM links WHERE hash = ? AND purpose = ? AND expires_ms > ?", (token_hash, purpose, now_ms)
    )
    return bool(list(rows))


def use_link(conn: sqlite3.Connection, token_hash: bytes, purpose: LinkPurpose, now_ms: int) -> Link | None:
    """Return a link that still works, which it then does no more."""
    link = link_by_hash(conn, token_hash, purpose, now_ms)
    conn.execute("DELETE FROM links WHERE hash = ? AND purpose = ?", (token_hash, purpose))
    return link


def delete_links(conn: sqlite3.Connection, purpose: LinkPurpose, account: int | None = None) -> None:
    """End the links of a purpose: all of them, or those of one account."""
    conn.execute("DELETE FROM links WHERE purpose = ? AND (? IS NULL OR account = ?)", (purpose, account, account))


def prune_links(conn: sqlite3.Connection, now_ms: int) -> int:
    """Forget links and sessions that have ended, or that a wrong clock put far into the future; return how many."""
    far_ms, gone = now_ms + _FUTURE_MS, 0
    for table in ("links", "sessions"):
        gone += conn.execute(f"DELETE FROM {table} WHERE expires_ms <= ?", (now_ms,)).rowcount
        # Made then, it ends later still: the index on the end finds it.
        gone += conn.execute(f"DELETE FROM {table} WHERE expires_ms > ? AND created_ms > ?", (far_ms, far_ms)).rowcount
    return gone


# Sessions


def insert_session(
    conn: sqlite3.Connection,
    token_hash: bytes,
    account: int,
    key: int | None,
    now_ms: int,
    expires_ms: int,
    browser: str = "",
) -> None:
    """Keep a browser signed in until `expires_ms`, or until the key it was signed in with is revoked.

    An account has at most `MAX_SESSIONS`; those that were used longest ago end.
    """
    conn.execute(
        "INSERT INTO sessions (hash, account, key, created_ms, expires_ms, seen_ms, browser) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (token_hash, account, key, now_ms, expires_ms, now_ms, browser),
    )
    conn.execute(
        "DELETE FROM sessions WHERE hash IN (SELECT hash FROM sessions WHERE account = ? AND hash <> ? "
        "ORDER BY seen_ms DESC LIMIT -1 OFFSET ?)",
        (account, token_hash, MAX_SESSIONS - 1),
    )


async def account_by_session(conn: aiosqlite.Connection, token_hash: bytes, now_ms: int) -> Account | None:
    """Return who is signed in with this session."""
    rows = await conn.execute_fetchall(
        f"SELECT {ACCOUNT_COLUMNS} FROM sessions s JOIN accounts a ON a.seq = s.account "
        "WHERE s.hash = ? AND s.expires_ms > ?",
        (token_hash, now_ms),
    )
    return next((account_of(tuple(row)) for row in rows), None)


def delete_sessions(conn: sqlite3.Connection, account: int, token_hash: bytes | None = None) -> None:
    """Sign out: one session, or all of an account."""
    conn.execute(
        "DELETE FROM sessions WHERE account = ? AND (? IS NULL OR hash = ?)", (account, token_hash, token_hash)
    )


def delete_session(conn: sqlite3.Connection, token_hash: bytes) -> None:
    """Sign out one session, whoever's it is."""
    conn.execute("DELETE FROM sessions WHERE hash = ?", (token_hash,))


async def sessions_of_account(conn: aiosqlite.Connection, account: int, now_ms: int) -> list[Session]:
    """Return the browsers that are signed in, the one used last first."""
    rows = await conn.execute_fetchall(
        "SELECT s.hash, s.created_ms, s.seen_ms, s.expires_ms, s.browser, k.name "
        "FROM sessions s LEFT JOIN keys k ON k.seq = s.key WHERE s.account = ? AND s.expires_ms > ?",
        (account, now_ms),
    )
    found = [Session(*tuple(row)) for row in rows]
    return sorted(found, key=lambda session: max(session.seen_ms, session.created_ms), reverse=True)


def note_session_uses(
    conn: sqlite3.Connection, uses: Iterable[tuple[bytes, int]], span_ms: int, longest_ms: int
) -> None:
    """Write down when sessions were used last; each ends `span_ms` after that, or `longest_ms` after its begin."""
    conn.executemany(
        "UPDATE sessions SET seen_ms = ?, expires_ms = max(expires_ms, min(?, created_ms + ?)) WHERE hash = ?",
        [(at_ms, at_ms + span_ms, longest_ms, token_hash) for token_hash, at_ms in uses],
    )


# Requests to upgrade


def insert_upgrade_request(conn: sqlite3.Connection, account: int, plan: str, now_ms: int) -> bool:
    """Ask the operator for a plan; a later wish takes the place of an earlier one. Tell whether that is news."""
    changed = conn.execute(
        "INSERT INTO upgrade_requests (account, plan, created_ms) VALUES (?, ?, ?) "
        "ON CONFLICT (account) DO UPDATE SET plan = excluded.plan, created_ms = excluded.created_ms "
        "WHERE plan <> excluded.plan",
        (account, plan, now_ms),
    ).rowcount
    return changed > 0


def delete_upgrade_request(conn: sqlite3.Connection, account: int) -> bool:
    """Turn a request down, and end the links that lead to another one; tell whether there was one."""
    conn.execute("UPDATE accounts SET plan_changes = plan_changes + 1 WHERE seq = ?", (account,))
    return conn.execute("DELETE FROM upgrade_requests WHERE account = ?", (account,)).rowcount > 0


async def upgrade_request_of(conn: aiosqlite.Connection, account: int) -> str | None:
    """Return the plan that an account asks for."""
    rows = await conn.execute_fetchall("SELECT plan FROM upgrade_requests WHERE account = ?", (account,))
    return next((row[0] for row in rows), None)


async def upgrade_requests(conn: aiosqlite.Connection) -> list[UpgradeRequest]:
    """Return what waits for the operator, oldest first."""
    rows = await conn.execute_fetchall(
        f"SELECT {ACCOUNT_COLUMNS}, r.plan, r.created_ms FROM upgrade_requests r JOIN accounts a ON a.seq = r.account "
        "ORDER BY r.created_ms"
    )
    return [UpgradeRequest(account_of(tuple(row)[:_ACCOUNT_COLUMNS]), row[-2], row[-1]) for row in rows]


# Rows to values


def account_of(row: tuple[Any, ...]) -> Account:
    """Return the account of a row of `ACCOUNT_COLUMNS`."""
    names = (
        "seq",
        "id",
        "email",
        "role",
        "plan",
        "plan_changes",
        "created_ms",
        "verified_ms",
        "blocked_ms",
        "images",
        "stored_bytes",
        "leaving_ms",
    )
    return Account(**dict(zip(names, row, strict=True)))


def _key(row: tuple[Any, ...]) -> Key:
    seq, key_id, account, name, abilities, namespace, network, created_ms, confirmed_ms, last_used_ms = row
    return Key(
        seq=seq,
        id=key_id,
        account=account,
        name=name,
        abilities=tuple(abilities.split(",")),
        namespace=namespace,
        network=network,
        created_ms=created_ms,
        confirmed_ms=confirmed_ms,
        last_used_ms=last_used_ms,
    )
