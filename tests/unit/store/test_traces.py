"""What deletions leave in the files of a database, and that nothing is left once they are cleared."""

import asyncio
import random
import sqlite3
import time
from typing import Any

import pytest

from imgpro.errors import StorageFault
from imgpro.flows import traces as pass_of_traces
from imgpro.flows.traces import Traces
from imgpro.store import queries, queries_accounts, queries_keeping, traces
from imgpro.store.db import Database
from imgpro.store.layout import DataDir
from tests.samples import sample_image

WORD = "zqxkvj"
NOW_MS = 1_800_000_000_000


class Filled:
    """A database with the pictures of one account, of which every word contains `WORD`."""

    def __init__(self, data: DataDir, db: Database) -> None:
        self.data = data
        self.db = db
        self.traces = Traces(db, data)
        self.ids: list[str] = []

    async def fill(self, count: int, others: int = 0) -> None:
        """Store pictures, and `others` between them that belong to somebody else and have none of the words."""
        dice = random.Random(91)
        images = []
        for number in range(count + others):
            theirs = number * others // (count + others) != (number + 1) * others // (count + others)
            text = "other" if theirs else WORD
            images.append(
                sample_image(
                    f"picture {number}".encode(),
                    name=f"{text}{number}",
                    description=f"{text} " * dice.randrange(1, 20),
                    tags=(f"{text}{number % 7}",),
                    namespace=f"{text}-{number % 3}",
                    created_ms=NOW_MS + dice.randrange(10**9),
                    expires_ms=None,
                    account=2 if theirs else 1,
                )
            )

        def write(conn: Any) -> None:
            queries_accounts.insert_account(conn, "acc_1", f"{WORD}@example.org", "member", NOW_MS)
            queries_accounts.insert_account(conn, "acc_2", "other@example.org", "member", NOW_MS)
            for image in images:
                queries.insert_image(conn, image, None)

            # Rows that grow split pages in the middle, where rows of both lie.
            theirs = [image.id for image in images if image.account == 2]
            dice.shuffle(theirs)
            conn.executemany("UPDATE images SET display_date = ? WHERE id = ?", [("x" * 500, each) for each in theirs])

        await self.db.write(write)
        self.ids = [image.id for image in images if image.account == 1]

    async def delete_all(self) -> None:
        await self.db.write(lambda conn: queries.delete_images(conn, self.ids))
        await self.db.write(lambda conn: conn.execute("DELETE FROM accounts WHERE seq = 1"))

    def left(self) -> dict[str, int]:
        """Return how often the word is still in which file."""
        folder = self.data.database.parent
        return {path.name: path.read_bytes().count(WORD.encode()) for path in folder.glob("imgpro.db*")}


def run(tmp_path, work):
    async def do():
        data = DataDir.open(tmp_path / "data")
        try:
            db = await Database.open(data.database, data.backups, data.instance_id, "test")
            try:
                await work(Filled(data, db))
            finally:
                await db.close()
        finally:
            data.close()

    asyncio.run(do())


def test_stale_copies_of_rows_that_moved_go(tmp_path, monkeypatch):
    """A full page is split, and what moved to the new page stands in the old one too, where nothing overwrites it."""

    async def work(filled):
        await filled.fill(400, others=400)
        await filled.delete_all()
        with monkeypatch.context() as patched:
            patched.setattr(traces, "rewrite", lambda _: None)
            await filled.traces.clear()
        assert filled.left()["imgpro.db"] > 0
        await filled.db.write(lambda conn: conn.execute("UPDATE totals SET value = 401 WHERE name = 'traces'"))
        assert await filled.traces.clear(at_once=True) == 401
        assert filled.left() == {"imgpro.db": 0, "imgpro.db-wal": 0, "imgpro.db-shm": 0}
        assert await filled.traces.clear(at_once=True) == 0
        assert await filled.db.write(lambda conn: conn.execute("PRAGMA integrity_check").fetchone()[0]) == "ok"

    run(tmp_path, work)


def test_words_in_the_index_go(tmp_path, monkeypatch):
    async def work(filled):
        await filled.fill(30, others=30)
        await filled.delete_all()
        with monkeypatch.context() as patched:
            patched.setattr(traces, "begin_merge", lambda _: False)
            await filled.traces.clear()
        assert filled.left()["imgpro.db"] > 0
        await filled.db.write(lambda conn: conn.execute("UPDATE totals SET value = 31 WHERE name = 'traces'"))
        assert await filled.traces.clear(at_once=True) == 31
        assert sum(filled.left().values()) == 0

    run(tmp_path, work)


def test_old_pages_in_the_log_go(tmp_path, monkeypatch):
    async def work(filled):
        await filled.fill(30)
        await filled.delete_all()
        with monkeypatch.context() as patched:
            patched.setattr(traces, "fold", lambda _: False)
            assert await filled.traces.clear() == 0
        assert filled.left()["imgpro.db-wal"] > 0
        assert await filled.traces.clear(at_once=True) == 31
        assert sum(filled.left().values()) == 0

    run(tmp_path, work)


def test_readers_and_writers_go_on(tmp_path):
    """While it is cleared, others read and write, and nothing of what is there is lost."""

    async def work(filled):
        await filled.fill(600)
        gone, kept = filled.ids[:300], filled.ids[300:]
        await filled.db.write(lambda conn: queries.delete_images(conn, gone))

        async def use() -> int:
            done = 0
            while not clearing.done():
                async with filled.db.reader() as conn:
                    assert await queries.image_by_id(conn, kept[done % len(kept)]) is not None
                await filled.db.write(lambda conn: queries.log_upload(conn, "192.0.2.1", NOW_MS))
                done += 1
                await asyncio.sleep(0)
            return done

        clearing = asyncio.ensure_future(filled.traces.clear())
        uses = await use()
        assert await clearing == 300
        async with filled.db.reader() as conn:
            rows = list(await conn.execute_fetchall("SELECT count(*) FROM upload_log"))
            totals = await queries.totals(conn)
            rowids = "SELECT count(*) FROM images_text WHERE images_text MATCH ?"
            found = list(await conn.execute_fetchall(rowids, (WORD,)))
        assert rows[0][0] == uses
        assert totals.images == 300 == found[0][0]

    run(tmp_path, work)


def test_a_reader_in_the_way_is_waited_for_and_then_let_be(tmp_path):
    """Somebody else's long look at the database keeps its log from being emptied: it is tried again."""

    async def work(filled):
        await filled.fill(50)
        await filled.delete_all()
        other = sqlite3.connect(filled.data.database)
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM images").fetchone()
        began_s = time.monotonic()
        assert await filled.traces.clear() == 0
        assert time.monotonic() - began_s < 30
        other.close()
        assert await filled.traces.clear(at_once=True) == 51
        assert sum(filled.left().values()) == 0

    run(tmp_path, work)


def test_too_costly_waits_its_turn(tmp_path, monkeypatch):
    monkeypatch.setattr(pass_of_traces, "WAIT_PER_REWRITE", 10**6)

    async def work(filled):
        await filled.fill(20)
        first, second = filled.ids[:10], filled.ids[10:]
        await filled.db.write(lambda conn: queries.delete_images(conn, first))
        assert await filled.traces.clear() == 10
        await filled.db.write(lambda conn: queries.delete_images(conn, second))
        assert await filled.traces.clear() == 0
        assert await filled.traces.clear(at_once=True) == 10

    run(tmp_path, work)


def test_no_room_to_write_it_anew(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(traces, "room_wanted", lambda _: 2**60)

    async def work(filled):
        await filled.fill(20)
        await filled.delete_all()
        assert await filled.traces.clear() == 0
        assert "no room" in caplog.text
        assert filled.left()["imgpro.db-wal"] == 0  # what can be done is done
        async with filled.db.reader() as conn:
            assert await queries_keeping.traces_left(conn) == 21

    run(tmp_path, work)


def test_what_fails_between_two_transactions_is_told(tmp_path):
    async def work(filled):
        def fail(_: Any) -> None:
            raise OSError(5, "Input/output error")

        with pytest.raises(StorageFault):
            await filled.db.between(fail)
        assert await filled.db.between(lambda _: 3) == 3
        assert await filled.db.write(lambda _: 4) == 4

    run(tmp_path, work)
