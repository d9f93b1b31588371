"""SQL of the mail that waits to be sent. The rules of `queries` hold here too."""

import sqlite3
from typing import Any, Final

import aiosqlite

from imgpro.model import MailLetter, WaitingMail

_MAIL: Final = (
    "seq, account, recipient, subject, body_text, body_html, link, attempts, last_error, created_ms, next_ms, "
    "expires_ms"
)


def insert_mail(conn: sqlite3.Connection, letter: MailLetter) -> int:
    """Queue a letter to be sent at once; return its number."""
    found = conn.execute(
        "INSERT INTO mail (account, recipient, subject, body_text, body_html, link, created_ms, next_ms, expires_ms) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING seq",
        (
            letter.account,
            letter.recipient,
            letter.subject,
            letter.body_text,
            letter.body_html,
            letter.link,
            letter.created_ms,
            letter.created_ms,
            letter.expires_ms,
        ),
    ).fetchone()
    return int(found[0])


async def mail_due(conn: aiosqlite.Connection, now_ms: int, far_ms: int, limit: int) -> list[WaitingMail]:
    """Return letters to be sent now, in the order they were queued.

    A letter whose turn is later than `far_ms` is due too: nobody pauses that long, so the clock went back.
    """
    rows = await conn.execute_fetchall(
        f"SELECT {_MAIL} FROM mail WHERE (next_ms <= ? OR next_ms > ?) AND expires_ms > ? ORDER BY seq LIMIT ?",
        (now_ms, far_ms, now_ms, limit),
    )
    return [_waiting(tuple(row)) for row in rows]


async def next_mail_ms(conn: aiosqlite.Connection) -> int | None:
    """Return when (Unix ms) the next letter is due or ends, whichever comes first; None: nothing waits."""
    rows = list(await conn.execute_fetchall("SELECT min(min(next_ms), min(expires_ms)) FROM mail"))
    found: int | None = rows[0][0]
    return found


async def mail_waiting(conn: aiosqlite.Connection, account: int | None, now_ms: int) -> list[WaitingMail]:
    """Return the letters of an account, or with None all, that have not ended, oldest first."""
    rows = await conn.execute_fetchall(
        f"SELECT {_MAIL} FROM mail WHERE (? IS NULL OR account = ?) AND expires_ms > ? ORDER BY seq",
        (account, account, now_ms),
    )
    return [_waiting(tuple(row)) for row in rows]


async def mail_after(conn: aiosqlite.Connection, seq: int, now_ms: int) -> list[WaitingMail]:
    """Return the letters queued after the one numbered `seq` that have not ended, oldest first."""
    rows = await conn.execute_fetchall(
        f"SELECT {_MAIL} FROM mail WHERE seq > ? AND expires_ms > ? ORDER BY seq", (seq, now_ms)
    )
    return [_waiting(tuple(row)) for row in rows]


async def last_mail_seq(conn: aiosqlite.Connection) -> int:
    """Return the number of the youngest letter that waits, 0 if none does."""
    rows = list(await conn.execute_fetchall("SELECT coalesce(max(seq), 0) FROM mail"))
    return int(rows[0][0])


def note_mail_failure(conn: sqlite3.Connection, seq: int, error: str, next_ms: int) -> None:
    """Write down that sending failed, why (nothing secret), and when it is tried again."""
    conn.execute(
        "UPDATE mail SET attempts = attempts + 1, last_error = ?, next_ms = ? WHERE seq = ?", (error, next_ms, seq)
    )


def hasten_mail(conn: sqlite3.Connection, now_ms: int) -> int:
    """Let all that waits be due now; return how many letters would have waited longer."""
    return conn.execute("UPDATE mail SET next_ms = ? WHERE next_ms > ?", (now_ms, now_ms)).rowcount


def delete_mail(conn: sqlite3.Connection, seq: int) -> None:
    """Take a letter out of the queue: it was sent, or never can be."""
    conn.execute("DELETE FROM mail WHERE seq = ?", (seq,))


def delete_ended_mail(conn: sqlite3.Connection, now_ms: int) -> list[WaitingMail]:
    """Take out the letters that have no use any more, and return them."""
    rows = conn.execute(f"DELETE FROM mail WHERE expires_ms <= ? RETURNING {_MAIL}", (now_ms,))
    return [_waiting(row) for row in rows.fetchall()]


def _waiting(row: tuple[Any, ...]) -> WaitingMail:
    seq, account, recipient, subject, text, html, link, attempts, last_error, created_ms, next_ms, expires_ms = row
    letter = MailLetter(
        account=account,
        recipient=recipient,
        subject=subject,
        body_text=text,
        body_html=html,
        link=link,
        created_ms=created_ms,
        expires_ms=expires_ms,
    )
    return WaitingMail(seq=seq, letter=letter, attempts=attempts, last_error=last_error, next_ms=next_ms)
