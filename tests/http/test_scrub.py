"""Originals that the disk has changed or lost: found wherever the bit flipped, never served, and put back."""

import asyncio
import contextlib
import os
import random
import time
from pathlib import Path

import pytest

from imgpro.errors import StorageFault
from imgpro.flows import scrub as scrub_flow
from imgpro.flows.errands import Progress
from imgpro.settings import Backup, Scrub
from imgpro.store import durable, queries_keeping, queries_scrub, rereading
from imgpro.store.findings import read_findings
from imgpro.store.rereading import Pace, Stopped, read_again
from tests.http.inside import inside, settings
from tests.load import small_png

PICTURES = 8


async def scrubbed(site, **values):
    """Read all originals again; return the result and the findings by digest."""
    result = await site.appliance.scrub.errand(values, Progress())
    found = {finding.where.rpartition("/")[2]: finding for finding in read_findings(Path(result["findings"]))}
    return result, found


async def filled(site, count=PICTURES, seed=1):
    """Upload pictures; return what was sent and the answer, by digest."""
    dice = random.Random(seed)
    made = {}
    for _ in range(count):
        body = small_png(dice)
        answer = await site.must_upload(body)
        image = await site.appliance.records.get(answer["id"])
        made[image.blob.digest] = (body, answer)
    return made


def src(answer):
    return answer["src"].removeprefix("http://img.test")


async def noted(site):
    async with site.appliance.db.reader() as conn:
        return {row[0]: row[1] for row in await queries_keeping.damaged_blobs(conn, 100)}


def writable(path):
    path.chmod(0o640)
    return path


def flip(at):
    def harm(path, dice):
        content = bytearray(path.read_bytes())
        content[at(len(content), dice)] ^= 1 << dice.randrange(8)
        writable(path).write_bytes(content)

    return harm


def replaced(make):
    def harm(path, dice):
        path.unlink()
        make(path)

    return harm


def exchanged(path, dice):
    others = sorted(other for other in path.parents[2].rglob("*") if other.is_file() and other != path)
    content = dice.choice(others).read_bytes()
    path.unlink()
    path.write_bytes(content)


HARMS = {
    "first byte": flip(lambda size, dice: 0),
    "last byte": flip(lambda size, dice: size - 1),
    "any bit": flip(lambda size, dice: dice.randrange(size)),
    "another bit": flip(lambda size, dice: dice.randrange(size)),
    "cut": lambda path, dice: os.truncate(writable(path), dice.randrange(1, path.stat().st_size)),
    "emptied": lambda path, dice: os.truncate(writable(path), 0),
    "grown": lambda path, dice: writable(path).write_bytes(path.read_bytes() + b"\0"),
    "exchanged": exchanged,
    "missing": lambda path, dice: path.unlink(),
    "a directory": replaced(lambda path: (path.mkdir(), (path / "x").write_text("x"))),
    "a link to its like": lambda path, dice: (path.rename(path.with_name("away")), path.symlink_to("away")),
    "a link to nothing": replaced(lambda path: path.symlink_to("nowhere")),
    "a pipe": replaced(os.mkfifo),
}
GONE = ("missing",)


@pytest.mark.parametrize("harm", HARMS)
async def test_a_harm_anywhere_is_found_and_the_picture_served_no_more(tmp_path, harm):
    dice = random.Random(harm)
    async with inside(tmp_path / "data") as site:
        made = await filled(site)
        quarantine = site.appliance.data.quarantine
        result, found = await scrubbed(site)
        assert (result["checked"], result["left"], found) == (PICTURES, 0, {})
        bad = dice.choice(sorted(made))
        body, answer = made[bad]
        site.appliance.hot.clear()
        HARMS[harm](site.appliance.blobs.path(bad), dice)

        result, found = await scrubbed(site)

        assert list(found) == [bad]
        assert found[bad].pictures[0][0] == answer["id"]
        assert result["left"] == 1
        assert found[bad].left
        expected = "missing" if harm in GONE else "altered"
        assert (await noted(site))[bad] in (expected, "unreadable")
        assert os.path.lexists(quarantine / bad) is (harm not in GONE)
        assert not os.path.lexists(site.appliance.blobs.path(bad))
        refused = await site.get(src(answer))
        assert (refused.status, refused.json()["error"]) == (503, "image_damaged")
        assert "no-store" in refused.headers["Cache-Control"]
        for digest in set(made) - {bad}:
            assert (await site.get(src(made[digest][1]))).body == made[digest][0]

        # Whoever has the file puts it back by uploading it again.
        await site.must_upload(body)
        assert (await site.get(src(answer))).body == body
        assert await noted(site) == {}
        result, found = await scrubbed(site)
        assert (result["left"], found) == (0, {})


async def test_bits_anywhere_in_any_number_of_originals_are_found(tmp_path):
    dice = random.Random(8)
    async with inside(tmp_path / "data") as site:
        made = await filled(site, 24)
        for _ in range(12):
            victims = dice.sample(sorted(made), dice.randrange(1, 12))
            for digest in victims:
                path = site.appliance.blobs.path(digest)
                for _ in range(dice.choice((1, 1, 1, 3))):
                    HARMS["any bit"](path, dice)
            changed = [
                digest
                for digest in victims
                if rereading.blake3(site.appliance.blobs.path(digest).read_bytes()).hexdigest() != digest
            ]
            _, found = await scrubbed(site)
            assert sorted(found) == sorted(changed)
            for digest in changed:
                await site.must_upload(made[digest][0])


async def test_what_its_mode_keeps_from_being_read_gets_it_back(tmp_path):
    async with inside(tmp_path / "data") as site:
        made = await filled(site, 1)
        (digest,) = made
        path = site.appliance.blobs.path(digest)
        path.chmod(0)
        _, found = await scrubbed(site)
        assert found == {}
        assert path.read_bytes() == made[digest][0]
        if os.geteuid() != 0:  # root reads it as it is
            assert path.stat().st_mode & 0o777 == 0o440


async def test_a_bad_original_comes_back_from_a_backup(tmp_path):
    dice = random.Random(3)
    async with inside(tmp_path / "data", settings(backup=Backup(to=str(tmp_path / "kept")))) as site:
        made = await filled(site)
        await site.appliance.backups.create({}, Progress())
        bad = dice.sample(sorted(made), 5)
        for digest, harm in zip(bad, ("any bit", "missing", "cut", "a directory", "a pipe"), strict=True):
            HARMS[harm](site.appliance.blobs.path(digest), dice)
        result, found = await scrubbed(site)
        assert (sorted(found), result["healed"], result["left"]) == (sorted(bad), 5, 0)
        assert {finding.done for finding in found.values()} == {"it was put back from a backup"}
        for digest, (body, answer) in made.items():
            site.appliance.hot.clear()
            assert (await site.get(src(answer))).body == body
            assert site.appliance.blobs.path(digest).stat().st_mode & 0o777 == 0o440
        assert await noted(site) == {}
        # What was found is kept for whoever looks into it.
        assert {kept.digest for kept in site.appliance.healing.quarantine.kept()} == set(bad) - {bad[1]}


async def test_a_copy_that_is_bad_as_well_is_not_put_back(tmp_path):
    async with inside(tmp_path / "data", settings(backup=Backup(to=str(tmp_path / "kept")))) as site:
        made = await filled(site, 2)
        await site.appliance.backups.create({}, Progress())
        bad = min(made)
        for path in [site.appliance.blobs.path(bad), *(tmp_path / "kept").rglob(bad)]:
            HARMS["any bit"](path, random.Random(1))
        result, found = await scrubbed(site)
        assert (list(found), result["left"]) == ([bad], 1)
        assert (await site.get(src(made[bad][1]))).status == 503


async def test_whatever_is_fetched_is_held_against_its_name(tmp_path):
    async def other_bytes(digest, spool):
        await spool.write(b"something else")
        return True

    async with inside(tmp_path / "data") as site:
        made = await filled(site, 1)
        (digest,) = made
        site.appliance.healing.fetch = other_bytes
        HARMS["missing"](site.appliance.blobs.path(digest), random.Random(1))
        result, _ = await scrubbed(site)
        assert result["left"] == 1
        assert not site.appliance.blobs.path(digest).exists()
        assert list(site.appliance.data.tmp.iterdir()) == []


async def test_a_visitor_finds_what_is_missing_and_it_is_put_back_without_a_scrub(tmp_path):
    async with inside(tmp_path / "data", settings(backup=Backup(to=str(tmp_path / "kept")))) as site:
        made = await filled(site, 3)
        await site.appliance.backups.create({}, Progress())
        for digest, harm in zip(sorted(made), ("missing", "cut", "a link to nothing"), strict=True):
            HARMS[harm](site.appliance.blobs.path(digest), random.Random(2))
            site.appliance.hot.clear()
            body, answer = made[digest]
            assert (await site.get(src(answer))).json()["error"] == "image_damaged"
            async with asyncio.timeout(60):
                while (found := await site.get(src(answer))).status != 200:
                    await asyncio.sleep(0.02)
            assert found.body == body


async def test_sizes_made_before_are_shown_and_none_is_made_of_bad_bytes(tmp_path):
    async with inside(tmp_path / "data") as site:
        made = await filled(site, 1)
        ((digest, (body, answer)),) = made.items()
        path = src(answer).rpartition(".")[0]
        before = await site.get(f"{path}.webp")
        await site.appliance.derivs.settled()
        HARMS["any bit"](site.appliance.blobs.path(digest), random.Random(4))
        await scrubbed(site)
        assert (await site.get(f"{path}.webp")).body == before.body
        assert (await site.get(f"{path}.gif")).json()["error"] == "image_damaged"
        page = await site.ask("GET", f"/{answer['id']}", Accept="text/html")
        assert b"was damaged on the server" in page.body
        await site.must_upload(body)
        # Nobody can tell of which bytes those were made.
        assert site.appliance.derivs.get(digest, "o-1.webp") is None
        assert (await site.get(f"{path}.gif")).status == 200
        page = await site.ask("GET", f"/{answer['id']}", Accept="text/html")
        assert b"was damaged on the server" not in page.body


async def test_a_deleted_picture_leaves_nothing_in_quarantine(tmp_path):
    async with inside(tmp_path / "data") as site:
        made = await filled(site, 3)
        quarantine = site.appliance.healing.quarantine
        for digest in made:
            HARMS["any bit"](site.appliance.blobs.path(digest), random.Random(5))
        await scrubbed(site)
        assert len(list(quarantine.kept())) == 3
        first, second, third = sorted(made)
        assert (await site.delete(made[first][1])).status == 200
        assert [kept.digest for kept in quarantine.kept()] == [second, third]
        assert set(await noted(site)) == {second, third}
        # A kill between the row and the file: the sweep sees to it. What is damaged still stays for as long as it is.
        quarantine.path(first).write_bytes(b"left over")
        assert await site.appliance.healing.sweep() == 1
        assert [kept.digest for kept in quarantine.kept()] == [second, third]
        await site.must_upload(made[second][0])
        assert await site.appliance.healing.sweep() == 0  # whole again, for less than thirty days


async def test_a_disk_that_is_not_there_loses_no_picture(tmp_path):
    async with inside(tmp_path / "data") as site:
        made = await filled(site)
        away = tmp_path / "away"
        (tmp_path / "data").rename(away)
        with pytest.raises(StorageFault):
            await scrubbed(site)
        (tmp_path / "data").mkdir()
        with pytest.raises(StorageFault):
            await site.appliance.scrub.step()
        (tmp_path / "data").rmdir()
        away.rename(tmp_path / "data")
        assert await noted(site) == {}
        result, found = await scrubbed(site)
        assert (result["checked"], found) == (len(made), {})


async def test_a_deletion_during_the_look_is_no_loss(tmp_path):
    async with inside(tmp_path / "data") as site:
        made = await filled(site, 2)
        digest = min(made)
        # The scrub found it missing a moment ago; meanwhile its row has gone as well.
        await site.delete(made[digest][1])
        assert await site.appliance.healing.judge(digest) is None
        # And one that came back whole before the second look.
        assert await site.appliance.healing.judge(max(made)) is None


async def test_the_rolling_round_goes_on_where_it_was_and_begins_anew(tmp_path):
    often = Scrub(every_s=int(4 * scrub_flow.STEP_S))
    async with inside(tmp_path / "data", settings(scrub=often)) as site:
        made = await filled(site)
        await site.appliance.scrub.step()
        async with site.appliance.db.reader() as conn:
            now = await queries_scrub.round_under_way(conn)
        assert (now.checked, now.cursor) == (2, sorted(made)[1])
    async with inside(tmp_path / "data", settings(scrub=often)) as site:
        victim = sorted(made)[3]
        HARMS["any bit"](site.appliance.blobs.path(victim), random.Random(6))
        assert await site.appliance.scrub.step() == "1 original damaged"
        assert list(await noted(site)) == [victim]
        for _ in range(3):
            await site.appliance.scrub.step()
        async with site.appliance.db.reader() as conn:
            run = (await queries_keeping.last_runs(conn))["scrub"]
            assert await queries_scrub.round_under_way(conn) is None
        assert run.failed
        assert (run.details["checked"], run.details["bad"], run.details["left"]) == (PICTURES, 1, 1)
        await site.must_upload(made[victim][0])
        for _ in range(5):
            await site.appliance.scrub.step()
        async with site.appliance.db.reader() as conn:
            run = (await queries_keeping.last_runs(conn))["scrub"]
        assert run.good_ms == run.ended_ms is not None
        assert "all are whole" in run.message


async def test_what_is_damaged_is_tried_again_with_each_step(tmp_path):
    async with inside(tmp_path / "data", settings(backup=Backup(to=str(tmp_path / "kept")))) as site:
        made = await filled(site, 2)
        digest = min(made)
        content = made[digest][0]
        HARMS["missing"](site.appliance.blobs.path(digest), random.Random(1))
        await scrubbed(site)
        assert list(await noted(site)) == [digest]
        # The file comes back by other hands: nobody has to say so.
        path = site.appliance.blobs.path(digest)
        path.write_bytes(content)
        assert "1 damaged original whole again" in await site.appliance.scrub.step()
        assert await noted(site) == {}


async def test_many_missing_in_a_row_stop_the_rolling_round_and_are_named_by_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(scrub_flow, "MOST_IN_A_ROW", 5)
    async with inside(tmp_path / "data", settings(scrub=Scrub(every_s=1))) as site:
        made = await filled(site, 12)
        for digest in made:
            site.appliance.blobs.path(digest).unlink()
        with pytest.raises(StorageFault, match="5 originals in a row"):
            await site.appliance.scrub.step()
        assert sorted(await noted(site)) == sorted(made)[:5]
        result, found = await scrubbed(site)
        assert (sorted(found), result["left"]) == (sorted(made), 12)


async def test_only_the_rest_of_a_round(tmp_path):
    async with inside(tmp_path / "data", settings(scrub=Scrub(every_s=int(2 * scrub_flow.STEP_S)))) as site:
        made = await filled(site)
        await site.appliance.scrub.step()
        for digest in (min(made), max(made)):
            HARMS["any bit"](site.appliance.blobs.path(digest), random.Random(1))
        _, found = await scrubbed(site, rest=True)
        assert list(found) == [max(made)]
        _, found = await scrubbed(site)
        assert sorted(found) == [min(made), max(made)]


async def test_it_can_be_broken_off_and_waits_for_no_rate(tmp_path):
    async with inside(tmp_path / "data") as site:
        await filled(site)
        errands = site.appliance.errands
        began = errands.start("scrub", {"rate": 1024})
        await asyncio.sleep(0.2)
        assert errands.look(began.errand).state == "running"
        assert (await errands.stop(began.errand)).state == "stopped"
        assert list(site.appliance.data.tmp.iterdir()) == []
        result, found = await scrubbed(site)
        assert (result["checked"], found) == (PICTURES, {})


def test_a_pace_takes_its_time_and_ends_at_once(tmp_path):
    path = tmp_path / "blob"
    path.write_bytes(bytes(200_000))
    digest = rereading.blake3(bytes(200_000)).hexdigest()
    began = time.monotonic()
    assert read_again(path, digest, 200_000, Pace(400_000)).damage is None
    assert time.monotonic() - began >= 0.3
    pace = Pace(1024)
    pace.stop.set()
    with pytest.raises(Stopped):
        read_again(path, digest, 200_000, pace)


def _cached_share(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        return len(rereading._cached_chunks(fd, size, 4096)) / (size / 4096)
    finally:
        os.close(fd)


def test_reading_again_leaves_the_page_cache_as_it_was(tmp_path):
    if durable.filesystem_type(tmp_path) not in (0xEF53, 0x58465342, 0x9123683E):
        pytest.skip("this file system has no page cache that could be asked to let go")
    files = []
    for number in range(2):
        content = random.Random(number).randbytes(4 * 1024 * 1024)
        path = tmp_path / rereading.blake3(content).hexdigest()
        with path.open("wb") as file:
            file.write(content)
            os.fsync(file.fileno())
        files.append(path)
    hot, cold = files
    for path in files:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    hot.read_bytes()
    if _cached_share(cold) > 0.1 or _cached_share(hot) < 0.9:
        pytest.skip("this system does not say what it holds")
    for path in files:
        assert read_again(path, path.name, path.stat().st_size).damage is None
    assert _cached_share(hot) > 0.9
    assert _cached_share(cold) < 0.5


async def test_nothing_but_whole_bytes_is_answered_while_originals_go_bad(tmp_path):
    """Visitors look all the time; whatever they are answered with 200 is what was uploaded."""
    dice = random.Random(9)
    async with inside(tmp_path / "data", settings(backup=Backup(to=str(tmp_path / "kept")))) as site:
        made = await filled(site)
        await site.appliance.backups.create({}, Progress())
        seen = set()
        stop = asyncio.Event()

        async def look():
            while not stop.is_set():
                site.appliance.hot.clear()
                digest = dice.choice(sorted(made))
                answer = await site.get(src(made[digest][1]))
                seen.add(answer.status)
                if answer.status == 200:
                    assert answer.body == made[digest][0]
                else:
                    assert answer.json()["error"] == "image_damaged"

        looking = asyncio.create_task(look())
        for harm in ("missing", "cut", "a directory", "missing", "grown", "a pipe", "emptied", "a link to nothing"):
            digest = dice.choice(sorted(made))
            with contextlib.suppress(FileNotFoundError):
                HARMS[harm](site.appliance.blobs.path(digest), dice)
            await scrubbed(site)
        stop.set()
        await looking
        assert 200 in seen
        assert await noted(site) == {}


async def test_nothing_is_called_lost_while_all_originals_are_away(tmp_path):
    async with inside(tmp_path / "data") as site:
        made = await filled(site, 3)
        blobs = site.appliance.data.blobs
        blobs.rename(tmp_path / "elsewhere")
        with pytest.raises(StorageFault, match="disk that holds the pictures is not there"):
            await scrubbed(site)
        assert await noted(site) == {}
        (tmp_path / "elsewhere").rename(blobs)
        result, found = await scrubbed(site)
        assert (found, result["checked"]) == ({}, len(made))
