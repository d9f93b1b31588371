"""Kill -9 at every named point of the write path, then look at what is left (DESIGN: invariants I1 to I4)."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3

from imgpro.store import queries
from imgpro.store.blobs import BlobStore
from imgpro.store.db import Database
from imgpro.store.durable import POINTS
from imgpro.store.layout import DataDir
from tests.contract import crash_child

ROOT = Path(__file__).resolve().parents[2]


def run_until_killed(path: Path, plan: str, seed: int) -> tuple[int, list[list[str]]]:
    env = {**os.environ, "IMGPRO_CRASH_AT": plan, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.contract.crash_child", str(path), str(seed)]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    # The last line may have been cut by the kill; what was not said completely was not acknowledged.
    return done.returncode, [line.split() for line in done.stdout.splitlines(keepends=True) if line.endswith("\n")]


def owed(said: list[list[str]]) -> tuple[dict[str, str], set[str]]:
    """Return what must be there (id to digest) and what must be gone, by what was acknowledged."""
    stored = {line[1]: line[2] for line in said if line[0] == "STORED"}
    touched = {line[1] for line in said if line[0] == "DELETING"}
    gone = {line[1] for line in said if line[0] == "DELETED"}
    return {image_id: digest for image_id, digest in stored.items() if image_id not in touched}, gone


def recount(conn: sqlite3.Connection) -> None:
    assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert conn.execute("PRAGMA foreign_key_check").fetchall() == []
    kept = dict(conn.execute("SELECT name, value FROM totals"))
    assert kept["images"] == conn.execute("SELECT count(*) FROM images").fetchone()[0]
    assert kept["blob_bytes"] == conn.execute("SELECT coalesce(sum(stored_bytes), 0) FROM blobs").fetchone()[0]


async def check(path: Path, said: list[list[str]]) -> None:
    data = DataDir.open(path)
    assert list(data.tmp.iterdir()) == []
    db = await Database.open(data.database, data.backups, data.instance_id, "1.0")
    blobs = BlobStore(data)
    there, gone = owed(said)

    # A name in blobs/ and cache/ appears only complete.
    for file in (file for file in data.blobs.rglob("*") if file.is_file()):
        assert blake3(file.read_bytes()).hexdigest() == file.name
        assert file.stat().st_mode & 0o777 == 0o440
    for file in data.cache.rglob(crash_child.KEY):
        assert file.read_bytes() == crash_child.derivative(file.parent.name)

    # What was acknowledged is there, what was deleted is not, and no row is without its blob.
    async with db.reader() as conn:
        for image_id, digest in there.items():
            image = await queries.image_by_id(conn, image_id)
            assert image is not None
            assert image.blob.digest == digest
        for image_id in gone:
            assert await queries.image_by_id(conn, image_id) is None
        rows = [tuple(row) for row in await conn.execute_fetchall("SELECT digest, stored_bytes FROM blobs")]
    for digest, stored_bytes in rows:
        assert blobs.path(digest.hex()).stat().st_size == stored_bytes

    # What is left over is an orphan that the sweeper can take; a deleted picture's bytes are at most that.
    known = {digest.hex() for digest, _ in rows}
    orphans = [blob.digest async for blob in blobs.iterate() if blob.digest not in known]
    assert len(orphans) <= 3
    for digest in orphans:
        async with blobs.guard(digest):
            assert not await db.write(lambda conn, digest=digest: queries.blob_exists(conn, digest))
            await blobs.remove(digest)
    assert (await blobs.total()).count == len(known)
    await db.write(recount)
    await blobs.close()
    await db.close()
    data.close()


@pytest.mark.crash
@pytest.mark.parametrize("nth", [1, 2, 7])
@pytest.mark.parametrize("name", POINTS)
async def test_nothing_acknowledged_is_lost(tmp_path, name, nth):
    code, said = run_until_killed(tmp_path, f"{name}:{nth}", seed=nth)
    assert code == -signal.SIGKILL, "the point was never met"
    await check(tmp_path, said)
    # The next start goes on with what is there, and is killed later on.
    code, more = run_until_killed(tmp_path, f"{name}:{nth + 2}", seed=nth + 100)
    assert code == -signal.SIGKILL
    await check(tmp_path, said + more)


async def test_without_a_crash_everything_is_where_it_belongs(tmp_path):
    code, said = run_until_killed(tmp_path, "", seed=5)
    assert code == 0
    there, gone = owed(said)
    assert (len(there), len(gone)) == (4, 4 * crash_child.ROUNDS - 4)
    await check(tmp_path, said)
