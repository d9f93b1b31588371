"""Database, originals, cache and the rest held against each other: each disagreement is named, and mended on demand."""

import asyncio
import contextlib
import itertools
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from imgpro.appliance import Appliance
from imgpro.errors import StorageFault
from imgpro.flows.checkup import _Run
from imgpro.flows.errands import Progress
from imgpro.settings import Backup
from imgpro.store import check_files, layout
from imgpro.store.desk import Desk
from imgpro.store.doubts import Doubt, place_of
from imgpro.store.findings import Findings, read_findings
from imgpro.store.layout import DataDir
from imgpro.store.looks import Looks, look_at
from imgpro.store.quarantine import Quarantine
from tests.http.inside import settings
from tests.law import check_disk
from tests.load import Load, small_png
from tests.servers import ROOT, UNLIMITED, running
from tests.terminals import IMGPRO, at_terminal

OLD = (1, 1)  # long before any grace


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A data directory with eight pictures of one account and two of nobody, with derivatives."""
    data = tmp_path_factory.mktemp("template") / "data"
    dice = random.Random(11)
    with running(data, UNLIMITED) as server:
        key = server.new_key("ann@example.org")
        for number in range(8):
            fields = {"tags": "red,blue" if number % 2 else "blue", "namespace": "trips" if number < 3 else "work"}
            made = server.must_upload(small_png(dice), f"harbour {number}.png", key=key, **fields)
            server.get(made["src"].replace(".png", ".webp"))
        for _ in range(2):
            server.must_upload(small_png(dice))
        server.stop()
    return data


@pytest.fixture
def data(template, tmp_path):
    return Path(shutil.copytree(template, tmp_path / "data"))


@contextlib.asynccontextmanager
async def opened(data, chosen=None):
    """The appliance without its web side, as the command opens it."""
    appliance = await Appliance.start(chosen or settings(), data, serving=False)
    try:
        yield appliance
    finally:
        await appliance.close()


async def looked(appliance, **values):
    result = await appliance.checkup.errand(values, Progress())
    return result, list(read_findings(Path(result["findings"])))


def checked(data, chosen=None, **values):
    """Look at a data directory; return the result and the findings."""

    async def work():
        async with opened(data, chosen) as appliance:
            return await looked(appliance, **values)

    return asyncio.run(work())


def rows(data, sql, *values):
    with sqlite3.connect(data / "imgpro.db") as conn:
        found = conn.execute(sql, values).fetchall()
    conn.close()
    return found


def files(data):
    return sorted(path for path in (data / "blobs").rglob("*") if path.is_file())


def put(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, OLD)


def by_sql(*statements):
    def harm(data):
        with sqlite3.connect(data / "imgpro.db") as conn:
            for statement in statements:
                conn.execute(statement)
        conn.close()

    return harm


def a_derivative(data):
    path = next(path for path in sorted((data / "cache").rglob("*.webp")))
    path.chmod(0o640)
    path.write_bytes(b"no picture at all")


BLOB = "(digest, format, stored_bytes, width, height, frames, has_alpha, placeholder, created_ms)"
ORPHAN = "ab" * 32

# What is done to the data, and the kind and place of what is to be found.
HARMS = {
    "a total": (by_sql("UPDATE totals SET value = 77 WHERE name = 'images'"), "totals", "images"),
    "bytes in all": (by_sql("UPDATE totals SET value = value + 1 WHERE name = 'blob_bytes'"), "totals", "blob_bytes"),
    "anonymous bytes": (by_sql("UPDATE totals SET value = 0 WHERE name = 'anonymous_bytes'"), "totals", "anonymous"),
    "a total is gone": (by_sql("DELETE FROM totals WHERE name = 'blobs'"), "totals", "blobs"),
    "an account": (by_sql("UPDATE accounts SET images = images - 1, stored_bytes = 9"), "totals", "account 1"),
    "a namespace": (by_sql("UPDATE namespace_totals SET images = 9 WHERE name = 'work'"), "totals", "namespace work"),
    "a namespace is gone": (by_sql("DELETE FROM namespace_totals WHERE name = 'trips'"), "totals", "namespace trips"),
    "a namespace of none": (
        by_sql("INSERT INTO namespace_totals VALUES (1, 'none', 3, 3)"),
        "totals",
        "namespace none",
    ),
    "a tag": (by_sql("UPDATE tag_totals SET stored_bytes = 1 WHERE name = 'red'"), "totals", "tag red"),
    "the days": (by_sql("UPDATE daily_growth SET added_bytes = added_bytes - 5"), "totals", "daily_growth"),
    "the days, ahead": (by_sql("UPDATE daily_growth SET added_bytes = added_bytes + 5"), "totals", "daily_growth"),
    "a tag of a picture": (by_sql("DELETE FROM image_tags WHERE image = 2 AND tag = 'red'"), "tags", "picture 2"),
    "a tag too many": (
        by_sql("INSERT INTO image_tags SELECT account, 'cat', created_ms, seq, 1 FROM images WHERE seq = 3"),
        "tags",
        "picture 3",
    ),
    "tags while their sums are wrong": (
        by_sql("DELETE FROM image_tags WHERE image = 2", "UPDATE tag_totals SET images = 0 WHERE name = 'red'"),
        "tags",
        "picture 2",
    ),
    "an index": (by_sql("DROP INDEX images_by_format"), "database", "index images_by_format"),
    "a trigger": (by_sql("DROP TRIGGER images_removed"), "database", "trigger images_removed"),
    "words of nobody": (
        by_sql("INSERT INTO images_text (rowid, owner, name) VALUES (777, 'a1', 'ghost')"),
        "search",
        "search index",
    ),
    "a picture without words": (
        by_sql("INSERT INTO images_text (images_text) VALUES ('delete-all')"),
        "search",
        "picture ",
    ),
    "a reference": (
        by_sql(
            "PRAGMA foreign_keys = OFF",
            "INSERT INTO monthly_uploads (account, month, key, uploads) VALUES (99, '2026-01', 0, 1)",
        ),
        "database",
        "monthly_uploads",
    ),
    "a blob of no picture": (
        by_sql(f"INSERT INTO blobs {BLOB} VALUES (zeroblob(32), 'png', 5, 1, 1, 1, 0, '', 1)"),
        "database",
        f"blobs row {'00' * 32}",
    ),
    "a note of nothing": (
        by_sql("INSERT INTO damaged_blobs VALUES (zeroblob(32), 'altered', 1)"),
        "note",
        f"blobs/00/00/{'00' * 32}",
    ),
    "a note of what is whole": (
        by_sql("INSERT INTO damaged_blobs SELECT digest, 'missing', 1 FROM blobs LIMIT 1"),
        "note",
        "blobs/",
    ),
    "an orphan": (lambda data: put(data / "blobs" / "ab" / "ab" / ORPHAN), "orphan", f"blobs/ab/ab/{ORPHAN}"),
    "a mode": (lambda data: files(data)[2].chmod(0o644), "mode", "blobs/"),
    "a stranger": (lambda data: put(data / "blobs" / "readme.txt"), "stray", "blobs/readme.txt"),
    "a strange folder": (lambda data: (data / "blobs" / "zz").mkdir(), "stray", "blobs/zz"),
    "a folder in a folder": (lambda data: put(data / "blobs" / "ab" / "xyz" / "f"), "stray", "blobs/ab/xyz"),
    "no digest": (lambda data: put(files(data)[0].parent / "notes"), "stray", "blobs/"),
    "in the wrong place": (lambda data: put(data / "blobs" / "cd" / "cd" / ORPHAN), "stray", f"blobs/cd/cd/{ORPHAN}"),
    "a stranger in the cache": (lambda data: put(data / "cache" / "ab" / "x"), "stray", "cache/ab/x"),
    "a derivative of nothing": (
        lambda data: put(data / "cache" / "ab" / ORPHAN / "m-1.webp", b"RIFF....WEBP"),
        "derivative",
        f"cache/ab/{ORPHAN}",
    ),
    "a derivative that is none": (a_derivative, "derivative", "cache/"),
    "bytes of a deleted picture": (
        lambda data: put(data / "quarantine" / ORPHAN),
        "quarantine",
        f"quarantine/{ORPHAN}",
    ),
    "half a copy": (lambda data: put(data / "backups" / "pre-migrate-1-2-x.partial"), "litter", "backups/pre-migrate"),
    "a test that was cut off": (lambda data: put(data / "blobs" / ".selftest-1"), "litter", "blobs/.selftest-1"),
}


def pictures(data):
    return rows(data, "SELECT id, name, tags, namespace FROM images ORDER BY seq")


# Those that do not hide each other are looked for together: each look costs a start.
APART = (
    ("a total", "an account", "a namespace", "a tag", "the days", "an index", "a reference", "words of nobody"),
    ("a total is gone", "a namespace is gone", "a tag of a picture", "the days, ahead", "a trigger"),
    ("a tag too many", "a picture without words", "a blob of no picture", "anonymous bytes", "a namespace of none"),
    ("tags while their sums are wrong", "a note of nothing", "bytes in all", "a note of what is whole"),
    ("an orphan", "a mode", "a stranger", "a strange folder", "a folder in a folder", "no digest", "half a copy"),
    ("in the wrong place", "a stranger in the cache", "a derivative of nothing", "a derivative that is none"),
    ("bytes of a deleted picture", "a test that was cut off"),
)


def is_about(finding, name):
    _, kind, where = HARMS[name]
    return finding.kind == kind and finding.where.startswith(where)


@pytest.mark.parametrize("names", APART, ids=[names[0] for names in APART])
def test_a_disagreement_is_named_and_mended(data, names):
    before = pictures(data)
    for name in names:
        HARMS[name][0](data)

    async def work():
        async with opened(data) as appliance:
            wrong = await looked(appliance)
            mended = await looked(appliance, repair=True)
            return wrong, mended, await looked(appliance, deep=True)

    (result, wrong), (left, mended), (_, after) = asyncio.run(work())
    for name in names:
        assert any(is_about(finding, name) for finding in wrong), (name, wrong)
        assert any(is_about(finding, name) and finding.done for finding in mended), (name, mended)
    # Nothing else is said, but for what a blob's row without bytes and tags that are wrong bring with them.
    strange = [finding for finding in wrong if not any(is_about(finding, name) for name in names)]
    assert {finding.kind for finding in strange} <= {"totals", "missing"}, strange
    assert result["left"] == len(wrong)
    assert {finding.todo for finding in wrong} == {"imgpro check --repair"}
    assert left["left"] == 0, mended
    assert after == []
    assert pictures(data) == before
    check_disk(data)


def test_every_harm_is_looked_for():
    assert sorted(name for names in APART for name in names) == sorted(HARMS)


def test_nothing_is_wrong_with_what_is_well(data):
    for values in ({}, {"deep": True}, {"repair": True, "deep": True}):
        result, found = checked(data, **values)
        assert (found, result["images"], result["blobs"]) == ([], 10, 10)
    run = json.loads(rows(data, "SELECT details FROM last_runs WHERE name = 'check'")[0][0])
    assert run == {"found": 0, "left": 0, "kinds": {}}


def test_what_is_not_mended_is_left_and_named_again(data):
    lost, changed = files(data)[:2]
    lost.unlink()
    changed.chmod(0o640)
    changed.write_bytes(b"short")
    by_sql("CREATE TRIGGER evil AFTER INSERT ON blobs BEGIN SELECT 1; END")(data)
    before = pictures(data)
    for _ in range(2):
        result, found = checked(data, repair=True)
        assert result["left"] == 3
        assert {finding.where for finding in found} == {"trigger evil", place_of(lost.name), place_of(changed.name)}
        assert [finding.count for finding in found if finding.where.startswith("blobs/")] == [1, 1]
    assert pictures(data) == before
    assert {path.name for path in (data / "quarantine").iterdir()} == {changed.name}


def test_what_is_missing_comes_back_from_a_backup(data, tmp_path):
    chosen = settings(backup=Backup(to=str(tmp_path / "kept")))
    before = {path: path.read_bytes() for path in files(data)}

    async def work():
        async with opened(data, chosen) as appliance:
            await appliance.backups.create({}, Progress())
            for number, path in enumerate(before):
                if number % 3 == 0:
                    path.unlink()
                elif number % 3 == 1:
                    path.chmod(0o640)
                    path.write_bytes(path.read_bytes()[:-1])
            wrong, _ = await looked(appliance)
            mended, found = await looked(appliance, repair=True)
            clean, _ = await looked(appliance, deep=True)
            return wrong, mended, found, clean

    wrong, mended, found, clean = asyncio.run(work())
    assert (wrong["left"], mended["left"], clean["found"]) == (7, 0, 0)
    assert {finding.done for finding in found} == {"it was put back from a backup"}
    assert {path: path.read_bytes() for path in before} == before


def test_bits_are_found_by_a_deep_look_only(data):
    victim = files(data)[4]
    victim.chmod(0o640)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    victim.chmod(0o440)
    assert checked(data)[1] == []
    _, found = checked(data, deep=True)
    assert [(finding.kind, finding.where) for finding in found] == [("damaged", place_of(victim.name))]


def test_words_are_compared_one_by_one_by_a_deep_look(data):
    by_sql(
        "INSERT INTO images_text (images_text, rowid, owner, name, description, tags) "
        "SELECT 'delete', seq, 'a' || account, name, description, tags FROM images WHERE seq = 4",
        "INSERT INTO images_text (rowid, owner, name, description, tags) VALUES (4, 'a1', 'elsewhere', '', '')",
    )(data)
    assert checked(data)[1] == []
    _, found = checked(data, deep=True)
    assert [(finding.kind, finding.where) for finding in found] == [("search", "search index")]
    assert checked(data, deep=True, repair=True)[0]["left"] == 0
    assert checked(data, deep=True)[1] == []


def test_a_journal_that_lost_lines_is_written_anew(data):
    async def work():
        async with opened(data) as appliance:
            path = max(appliance.data.journal.glob("*.jsonl"))
            lines = path.read_bytes().splitlines(keepends=True)
            path.write_bytes(b"".join(lines[:-1]) + lines[-1][:10] + b"?" * (len(lines[-1]) - 11) + b"\n")
            _, found = await looked(appliance, deep=True)
            mended, _ = await looked(appliance, deep=True, repair=True)
            clean, _ = await looked(appliance, deep=True)
            return found, mended, clean

    found, mended, clean = asyncio.run(work())
    assert {finding.kind for finding in found} == {"journal"}
    assert any("lines that are broken" in finding.what for finding in found)
    assert (mended["left"], clean["found"]) == (0, 0)


def test_a_damaged_database_is_said_to_be_one(data):
    path = data / "imgpro.db"
    root = rows(data, "SELECT rootpage FROM sqlite_schema WHERE name = 'image_tags_by_image'")[0][0]
    size = rows(data, "PRAGMA page_size")[0][0]
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)
    result, found = checked(data)
    assert found[0].kind == "database"
    assert result["left"] > 0
    done = imgpro("check", "--data", str(data))
    assert done.returncode == 1
    assert "imgpro rebuild" in done.stderr


def test_a_database_that_cannot_be_opened_has_ways_out(data):
    (data / "imgpro.db").write_bytes(b"this is no database" * 1000)
    done = imgpro("check", "--data", str(data))
    assert done.returncode == 65
    assert "imgpro rebuild" in done.stderr
    assert "imgpro backup restore" in done.stderr


def test_a_disk_that_is_not_there_is_no_disagreement(data):
    async def work():
        async with opened(data) as appliance:
            data.rename(data.with_name("away"))
            with pytest.raises(StorageFault):
                await looked(appliance, repair=True)
            lost = Doubt("missing", "blobs/x", "is not there", "blob", (ORPHAN,))
            with pytest.raises(StorageFault):
                await appliance.checkup._second.confirms(lost)
            data.with_name("away").rename(data)
            assert (await looked(appliance))[1] == []

    asyncio.run(work())


def test_what_changed_since_the_first_look_is_no_disagreement(data):
    async def work():
        async with opened(data) as appliance:
            second = appliance.checkup._second
            whole, gone = files(data)[0].name, ORPHAN
            assert not await second.confirms(Doubt("missing", f"blobs/{whole}", "", "blob", (whole,)))
            assert not await second.confirms(Doubt("missing", f"blobs/{gone}", "", "blob", (gone,)))
            assert not await second.confirms(Doubt("orphan", f"blobs/{whole}", "", "orphan", (whole,)))
            assert not await second.confirms(Doubt("orphan", f"blobs/{gone}", "", "orphan", (gone,)))
            cached = f"cache/{whole[:2]}/{whole}"
            assert not await second.confirms(Doubt("derivative", cached, "", "derivative", (whole, False)))
            assert not await second.confirms(Doubt("stray", "blobs/x", "", "stray", (str(data / "x"),)))
            async with Findings(data / "tmp") as findings:
                run = _Run(findings, Progress(), repair=True, deep=False)
                await appliance.checkup._weigh(Doubt("orphan", "", "", "orphan", (whole,)), run)
                assert findings.kinds.total() == 0

    asyncio.run(work())


def imgpro(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "imgpro", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )


def test_the_commands_with_and_without_a_server(data):
    for command in ("check", "scrub"):
        done = imgpro(command, "--data", str(data))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    lost = files(data)[0]
    content = lost.read_bytes()
    lost.unlink()
    done = imgpro("check", "--json", "--data", str(data))
    assert done.returncode == 1
    assert [finding["where"] for finding in json.loads(done.stdout)["findings"]] == [place_of(lost.name)]
    assert "Try: imgpro check --repair" in done.stderr
    done = imgpro("scrub", "--data", str(data))
    assert done.returncode == 3
    assert done.stdout.startswith(f"missing  {place_of(lost.name)}: is not there (")
    assert "1 is damaged" in done.stderr
    with running(data, UNLIMITED) as server:
        done = imgpro("check", "--repair", "--data", str(data))
        assert (done.returncode, done.stdout.count("\n")) == (1, 1)
        server.must_upload(content)
        done = imgpro("scrub", "--rate", "100MiB", "--json", "--data", str(data))
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["checked"] == 10
        assert imgpro("scrub", "--rate", "fast", "--data", str(data)).returncode == 78
        done = imgpro("check", "--deep", "--json", "--data", str(data))
        assert (done.returncode, json.loads(done.stdout)["found"]) == (0, 0)
    assert list((data / "tmp").iterdir()) == []


def test_uploads_and_deletions_meanwhile_are_no_disagreement(tmp_path):
    """Everything changes all the time, and no look takes that for damage."""
    data = tmp_path / "data"
    with running(data, UNLIMITED) as server:
        load = Load(server, 3, deletes=0.5)
        stop = threading.Event()

        def edit():
            dice, key = random.Random(3), ""
            for number in itertools.count():
                if stop.is_set():
                    return
                if number % 100 == 0:  # the uploads of a month are soon used up
                    key = server.new_key(f"ann{number}@example.org")
                made = server.must_upload(small_png(dice), "boat.png", key=key, tags="red", namespace="trips")
                server.get(made["src"].replace(".png", ".webp"))
                change = {"name": "ship.png", "tags": ["blue"], "namespace": "work"}
                assert server.api("PATCH", f"/v1/media/{made['id']}", change, key=key).status == 200
                if dice.random() < 0.5:
                    server.api("DELETE", f"/v1/media/{made['id']}", key=key)

        editor = threading.Thread(target=edit)
        editor.start()
        load.start()
        try:
            for _ in range(2):
                for arguments in (("check",), ("check", "--deep"), ("scrub",)):
                    done = imgpro(*arguments, "--data", str(data))
                    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), arguments
        finally:
            stop.set()
            load.stop()
            editor.join()
    check_disk(data)


def test_a_file_system_that_keeps_no_modes_is_not_blamed(data, monkeypatch):
    monkeypatch.setattr(check_files, "keeps_modes", lambda tmp, name: False)
    for path in files(data):
        path.chmod(0o644)
    place = DataDir(data, data)
    for number, look in enumerate(Looks(place, Quarantine(place), 0).listed(deep=False)):
        if look.counts_blobs:
            seen = look_at(Desk(lambda *_: None), place, 0, number, False)
            assert [doubt for doubt in seen if not isinstance(doubt, int)] == []


def test_names_of_the_data_directory_are_known():
    assert {"journal", "quarantine"} <= set(layout.OWN_NAMES)


def test_it_says_when_backups_were_made_and_tried_out(data):
    looked = json.loads(imgpro("check", "--data", str(data), "--json").stdout)
    assert (looked["backup_made_ms"], looked["backup_tried_ms"]) == (None, None)
    imgpro("backup", "create", "--data", str(data))
    made = json.loads(imgpro("check", "--data", str(data), "--json").stdout)
    assert (made["backup_made_ms"] > 0, made["backup_tried_ms"]) == (True, None)
    imgpro("backup", "verify", "--data", str(data))
    tried = json.loads(imgpro("check", "--data", str(data), "--json").stdout)
    assert tried["backup_made_ms"] == made["backup_made_ms"] < tried["backup_tried_ms"]
    with at_terminal([*IMGPRO, "check", "--data", str(data)], os.environ, ROOT) as command:
        assert command.finish()[0] == 0
    assert "Backups are not looked into here: the last good one is of 20" in command.text
