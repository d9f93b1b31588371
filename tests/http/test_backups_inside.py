"""Backups from within: pictures that are deleted meanwhile, the daily one, and originals that are fetched back."""

import asyncio
import contextlib
import sqlite3
from random import Random

import pytest
from blake3 import blake3

from imgpro.errors import TargetFault
from imgpro.flows.errands import Progress
from imgpro.settings import Backup
from imgpro.store import queries_keeping
from imgpro.store.backing_up import Making
from imgpro.store.quiet_threads import Stop
from imgpro.store.repository import Repository
from imgpro.store.target_directory import DirectoryTarget
from tests.backups import flip, stored
from tests.http.inside import inside, settings
from tests.load import small_png
from tests.servers import blobs

DAY_MS = 86_400_000


def chosen(place, **fields):
    return settings(backup=Backup(to=str(place), **fields))


async def filled(found, pictures: int = 4):
    dice = Random(9)
    return [await found.must_upload(small_png(dice)) for _ in range(pictures)]


async def test_a_picture_that_is_deleted_meanwhile_is_not_in_it(tmp_path):
    nas = tmp_path / "nas"
    async with inside(tmp_path / "data", chosen(nas)) as found:
        made = await filled(found)
        loop, gone, kept = asyncio.get_running_loop(), made[0], made[1:]

        def tell(stage: str, _: int) -> None:
            if stage == "copying pictures":  # the copy of the database is made, and names it
                assert asyncio.run_coroutine_threadsafe(found.delete(gone), loop).result(30).status == 200

        work = Making(Repository(DirectoryTarget(nas)), found.appliance.data, "0", Stop(), tell, used_before=False)
        done = await asyncio.to_thread(work.make)
        assert (done.deleted, done.damage, done.manifest.images, done.manifest.missing_blobs) == (1, (), 3, 0)
        assert len(stored(nas)) == 3
        path = nas / "backups" / done.name / "imgpro.db"
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as conn:
            ids = {row[0] for row in conn.execute("SELECT id FROM images")}
            assert ids == {one["id"] for one in kept}
            assert conn.execute("SELECT value FROM totals WHERE name = 'blobs'").fetchone() == (3,)
        # Nor is it found in the file as what SQLite has not overwritten yet.
        assert gone["id"].encode() not in path.read_bytes()
        verdict = await found.appliance.backups.verify({}, Progress())
        assert (verdict["bad"], verdict["blobs"]) == (0, 3)


async def test_a_picture_that_is_deleted_and_sent_again_meanwhile_is_in_it(tmp_path):
    """One comes back a moment after it was looked for; one that was lost all along is deleted a moment after."""
    nas = tmp_path / "nas"
    async with inside(tmp_path / "data", chosen(nas)) as found:
        dice = Random(9)
        contents = [small_png(dice) for _ in range(4)]
        made = [await found.must_upload(content) for content in contents]
        by_digest = {path.name: path for path in blobs(tmp_path / "data")}
        loop = asyncio.get_running_loop()

        class Meanwhile(Making):
            def _note(self, snapshot, live, digest, size, outcome):
                if digest == blake3(contents[0]).hexdigest() and contents[0] not in again:
                    again.append(contents[0])
                    asyncio.run_coroutine_threadsafe(found.must_upload(contents[0]), loop).result(30)
                super()._note(snapshot, live, digest, size, outcome)
                if digest == blake3(contents[1]).hexdigest() and contents[1] not in again:
                    again.append(contents[1])
                    assert asyncio.run_coroutine_threadsafe(found.delete(made[1]), loop).result(30).status == 200

        def tell(stage: str, _: int) -> None:
            if stage == "copying pictures":
                assert asyncio.run_coroutine_threadsafe(found.delete(made[0]), loop).result(30).status == 200
                for content in contents[1:3]:
                    by_digest[blake3(content).hexdigest()].unlink()

        again: list[bytes] = []
        work = Meanwhile(Repository(DirectoryTarget(nas)), found.appliance.data, "0", Stop(), tell, used_before=False)
        done = await asyncio.to_thread(work.make)
        assert again == contents[:2] or again == contents[1::-1]
        lost = blake3(contents[2]).hexdigest()
        assert (done.damage, done.manifest.missing) == (((lost, "missing"),), (lost,))
        assert (done.deleted, done.manifest.missing_blobs, done.manifest.new_blobs) == (1, 1, 2)
        assert {path.name for path in stored(nas)} == {blake3(contents[n]).hexdigest() for n in (0, 3)}


async def test_broken_off_it_leaves_nothing_half(tmp_path):
    nas = tmp_path / "nas"
    async with inside(tmp_path / "data", chosen(nas)) as found:
        await filled(found, 12)
        errands = found.appliance.errands
        report = errands.start("backup-create", {})
        while not (report := errands.look(report.errand)).done and report.state == "running":
            await asyncio.sleep(0)
        report = await errands.stop(report.errand)
        assert report.state in ("stopped", "done")
        assert list((found.appliance.data.root / "tmp").iterdir()) == []
        assert all(backup.manifest for backup in await found.appliance.backups.listed())
        result = await found.appliance.backups.create({}, Progress())
        assert result["blobs"] == 12


async def test_the_daily_one(tmp_path, caplog):
    nas = tmp_path / "nas"
    async with inside(tmp_path / "data", chosen(nas, keep=2)) as found:
        await filled(found)
        backups, db = found.appliance.backups, found.appliance.db
        await backups.keep_going()
        assert not nas.exists(), "a new box waits for its first night"
        status = await backups.status()
        assert (status.made_ms, status.late, status.place) == (None, False, str(nas))

        def age(conn: sqlite3.Connection) -> None:
            conn.execute("UPDATE meta SET value = CAST(value AS INTEGER) - ? WHERE key = 'created_ms'", (3 * DAY_MS,))

        await db.write(age)
        assert (await backups.status()).late
        nas.touch()  # a file in its place
        caplog.clear()
        await backups.keep_going()
        status = await backups.status()
        assert status.run is not None
        assert status.run.failed
        assert any(record.levelname == "ERROR" and str(nas) in record.message for record in caplog.records)
        assert backups.failures["backup"] == 1
        nas.unlink()
        await backups.keep_going()
        assert not nas.exists(), "the next try waits for an hour"

        def hour_later(conn: sqlite3.Connection) -> None:
            conn.execute("UPDATE last_runs SET began_ms = began_ms - 3600000, ended_ms = ended_ms - 3600000")

        await db.write(hour_later)
        await backups.keep_going()
        status = await backups.status()
        assert (len(stored(nas)), status.late) == (4, False)
        assert status.run is not None
        assert not status.run.failed
        await backups.keep_going()
        assert (await backups.status()).verify is not None, "the first one is tried out at once"
        before = await backups.listed()
        await backups.keep_going()
        assert await backups.listed() == before
        for _ in range(2):
            await backups.create({}, Progress())
        assert len(await backups.listed()) == 2


async def test_a_bad_picture_is_fetched_back_from_wherever_backups_went(tmp_path):
    nas, usb = tmp_path / "nas", tmp_path / "usb"
    async with inside(tmp_path / "data", chosen(nas)) as found:
        backups = found.appliance.backups
        (made,) = await filled(found, 1)
        (path,) = blobs(tmp_path / "data")
        good = path.read_bytes()
        await backups.create({"to": str(usb)}, Progress())
        await backups.create({}, Progress())
        flip(stored(nas)[0])  # the nearer copy is bad
        async with found.appliance.blobs.spool(10**6) as spool:
            assert await backups.fetch(path.name, spool)
            assert (await spool.finish()).path.read_bytes() == good
        async with found.appliance.blobs.spool(10**6) as spool:
            flip(stored(usb)[0])
            assert not await backups.fetch(path.name, spool)
            assert spool.size == 0
            flip(stored(usb)[0])
            assert await backups.fetch(path.name, spool)
        path.unlink()
        outcome = await found.appliance.healing.judge(path.name)
        assert outcome is not None
        assert outcome.healed
        assert path.read_bytes() == good
        assert (await found.get(made["src"])).status == 200


async def test_what_is_bad_is_noted_and_put_back(tmp_path):
    nas, usb = tmp_path / "nas", tmp_path / "usb"
    async with inside(tmp_path / "data", chosen(nas)) as found:
        await filled(found, 2)
        backups, db = found.appliance.backups, found.appliance.db
        await backups.create({"to": str(usb)}, Progress())
        path = blobs(tmp_path / "data")[0]
        good = path.read_bytes()
        flip(path)
        result = await backups.create({}, Progress())
        assert (result["missing"], result["named"]) == (1, [{"digest": path.name, "damage": "altered"}])
        async with asyncio.timeout(30):
            while not (path.exists() and path.read_bytes() == good):
                await asyncio.sleep(0.01)
        status = await backups.status()
        assert status.run is not None
        assert status.run.failed
        assert (await backups.create({}, Progress()))["missing"] == 0
        async with db.reader() as conn:
            assert await queries_keeping.damaged_count(conn) == 0


async def test_a_place_that_fails_is_named(tmp_path):
    async with inside(tmp_path / "data", chosen(tmp_path / "a" / "b")) as found:
        with pytest.raises(TargetFault, match="no directory"):
            await found.appliance.backups.create({}, Progress())
