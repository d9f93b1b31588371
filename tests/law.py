"""The durability law as a check: what must hold in a data directory and in what a restarted server answers."""

import json
import sqlite3
import time
from pathlib import Path

from blake3 import blake3

from tests.load import Load
from tests.servers import Server, blobs, leftovers


def check_disk(data: Path, database_dir: Path | None = None) -> int:
    """Check rows against files while no request is under way; return the number of orphaned blobs."""
    # An answer may be read before what it was made from is cleared away.
    deadline = time.monotonic() + 10
    while leftovers(data) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert leftovers(data) == []
    with sqlite3.connect(f"file:{(database_dir or data) / 'imgpro.db'}?mode=ro", uri=True) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert conn.execute("PRAGMA foreign_key_check").fetchall() == []
        rows = {row[0].hex(): row[1] for row in conn.execute("SELECT digest, stored_bytes FROM blobs")}
        kept = dict(conn.execute("SELECT name, value FROM totals"))
        assert kept["images"] == conn.execute("SELECT count(*) FROM images").fetchone()[0]
        assert kept["blobs"] == len(rows)
        assert conn.execute("SELECT count(*) FROM blobs WHERE seq NOT IN (SELECT blob FROM images)").fetchone() == (0,)
        check_owned(conn)
    conn.close()
    files = {path.name: path for path in blobs(data)}
    assert set(rows) <= set(files), "a row without its blob"
    for digest, path in files.items():
        content = path.read_bytes()
        assert blake3(content).hexdigest() == digest, "a blob that is not what its name says"
        assert len(content) == rows.get(digest, len(content))
        assert path.stat().st_mode & 0o777 == 0o440
    return len(files) - len(rows)


def check_answers(server: Server, load: Load) -> None:
    """Check that what was acknowledged is served, what was deleted is not, and nothing is half."""
    assert load.wrong == []
    for kept in load.kept.values():
        answer = server.get(kept.path)
        assert answer.status == 200, (kept.id, answer)
        assert answer.body == kept.body
    for kept in list(load.kept.values())[:20]:
        assert server.get(kept.webp).status == 200
    for kept in load.deleted.values():
        assert server.get(kept.path).status == 404
        assert server.get(kept.webp).status == 404
    for kept in load.unsure.values():
        answer = server.get(kept.path)
        assert answer.status == 404 or answer.body == kept.body


def cached_digests(data: Path) -> set[str]:
    """Return the pictures that have a derivative on disk."""
    return {path.parent.name for path in (data / "cache").rglob("*") if path.is_file() and path.name != "CACHEDIR.TAG"}


def check_owned(conn: sqlite3.Connection) -> None:
    """Check what is kept beside the pictures of accounts: sums, tags and the words they are found by."""
    pictures = conn.execute("SELECT seq, account, namespace, tags, stored_bytes, created_ms FROM images").fetchall()
    accounts: dict[int, list[int]] = {}
    spaces: dict[tuple[int, str], list[int]] = {}
    tagged: dict[tuple[int, str], list[int]] = {}
    rows = set()
    for seq, account, namespace, tags, size, created_ms in pictures:
        if account is None:
            continue
        accounts.setdefault(account, []).append(size)
        if namespace is not None:
            spaces.setdefault((account, namespace), []).append(size)
        for tag in json.loads(tags):
            tagged.setdefault((account, tag), []).append(size)
            rows.add((account, tag, created_ms, seq, size))
    kept = conn.execute("SELECT seq, images, stored_bytes FROM accounts WHERE images > 0 OR stored_bytes > 0")
    assert {row[0]: row[1:] for row in kept} == _sums(accounts)
    for table, expected in (("namespace_totals", spaces), ("tag_totals", tagged)):
        found = conn.execute(f"SELECT account, name, images, stored_bytes FROM {table}")
        assert {row[:2]: row[2:] for row in found} == _sums(expected)
    assert set(conn.execute("SELECT account, tag, created_ms, image, stored_bytes FROM image_tags")) == rows
    assert _words(conn) == _expected_words(conn), "pictures are found by words that are not theirs"


def _words(conn: sqlite3.Connection) -> set[tuple]:
    """Return every word of the full text index with its picture, column and place."""
    conn.execute("CREATE VIRTUAL TABLE temp.images_words USING fts5vocab(main, images_text, instance)")
    try:
        return set(conn.execute("SELECT doc, col, offset, term FROM temp.images_words"))
    finally:
        conn.execute("DROP TABLE temp.images_words")


def _expected_words(conn: sqlite3.Connection) -> set[tuple]:
    """Return the same for an index made anew from the pictures."""
    (made,) = conn.execute("SELECT sql FROM sqlite_schema WHERE name = 'images_text'").fetchone()
    texts = conn.execute(
        "SELECT seq, 'a' || account, name, description, tags FROM images WHERE account IS NOT NULL"
    ).fetchall()
    fresh = sqlite3.connect(":memory:")
    try:
        fresh.execute(made)
        fresh.executemany(
            "INSERT INTO images_text (rowid, owner, name, description, tags) VALUES (?, ?, ?, ?, ?)", texts
        )
        return _words(fresh)
    finally:
        fresh.close()


def _sums(groups: dict) -> dict:
    return {name: (len(sizes), sum(sizes)) for name, sizes in groups.items()}
