"""Accounts with very many pictures: rows without an upload each, that share the bytes of a few real ones."""

import random
import sqlite3
import time
from pathlib import Path

from imgpro import ids

DAY_MS = 86_400_000
COLUMNS = (
    "id, blob, format, stored_bytes, name, description, public, created_ms, account, key, namespace, tags, origin, "
    "metadata_removed"
)
WORDS = "harbour stairs garden invoice error receipt whiteboard cat map menu river forest".split()


def multiply(data: Path, count: int, *, span_days: int = 700, namespace: str | None = None) -> None:
    """Give the one account that has pictures `count` more, older than those; the server must not be running."""
    dice = random.Random(5)
    with sqlite3.connect(data / "imgpro.db") as conn:
        conn.execute("PRAGMA synchronous = OFF")
        (account, key, now_ms) = conn.execute("SELECT account, key, min(created_ms) FROM images").fetchone()
        blobs = conn.execute("SELECT seq, format, stored_bytes FROM blobs ORDER BY seq").fetchall()
        begin = conn.execute("SELECT max(seq) + 1 FROM images").fetchone()[0]
        rows = []
        for number in range(count):
            blob, kind, size = blobs[number % len(blobs)]
            name = f"{dice.choice(WORDS)} {count - number}.{kind}"
            at_ms = now_ms - (count - number) * span_days * DAY_MS // count
            rows.append(
                (
                    ids.new_image_id(),
                    blob,
                    kind,
                    size,
                    name,
                    "",
                    1,
                    at_ms,
                    account,
                    key,
                    namespace,
                    "[]",
                    "upload",
                    "[]",
                )
            )
        conn.executemany(f"INSERT INTO images ({COLUMNS}) VALUES ({', '.join('?' * 14)})", rows)
        conn.execute(
            "INSERT INTO images_text (rowid, owner, name, description, tags) "
            "SELECT seq, 'a' || account, name, description, tags FROM images WHERE seq >= ?",
            (begin,),
        )
    conn.close()


def backdate(data: Path, ages_days: dict[str, float]) -> None:
    """Make the pictures of these names so many days old; the server must not be running."""
    now_ms = int(time.time() * 1000)
    with sqlite3.connect(data / "imgpro.db") as conn:
        [(trigger,)] = conn.execute("SELECT sql FROM sqlite_schema WHERE name = 'images_keep_their_facts'").fetchall()
        conn.execute("DROP TRIGGER images_keep_their_facts")
        for name, days in ages_days.items():
            at_ms = now_ms - int(days * DAY_MS)
            conn.execute("UPDATE images SET created_ms = ? WHERE name = ?", (at_ms, name))
            conn.execute(
                "UPDATE image_tags SET created_ms = ? WHERE image IN (SELECT seq FROM images WHERE name = ?)",
                (at_ms, name),
            )
        conn.execute(trigger)
    conn.close()
