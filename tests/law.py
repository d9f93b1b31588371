"""The durability law as a check: what must hold in a data directory and in what a restarted server answers."""

import sqlite3
from pathlib import Path

from blake3 import blake3

from tests.load import Load
from tests.servers import Server, blobs, leftovers


def check_disk(data: Path, database_dir: Path | None = None) -> int:
    """Check rows against files while no request is under way; return the number of orphaned blobs."""
    assert leftovers(data) == []
    with sqlite3.connect(f"file:{(database_dir or data) / 'imgpro.db'}?mode=ro", uri=True) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert conn.execute("PRAGMA foreign_key_check").fetchall() == []
        rows = {row[0].hex(): row[1] for row in conn.execute("SELECT digest, stored_bytes FROM blobs")}
        kept = dict(conn.execute("SELECT name, value FROM totals"))
        assert kept["images"] == conn.execute("SELECT count(*) FROM images").fetchone()[0]
        assert kept["blobs"] == len(rows)
        assert conn.execute("SELECT count(*) FROM blobs WHERE seq NOT IN (SELECT blob FROM images)").fetchone() == (0,)
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
